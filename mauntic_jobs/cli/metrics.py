"""`metrics`: the state of an installation in Prometheus' format."""

from typing import Annotated

import typer

from mauntic_jobs.cli.framework.command import command, root
from mauntic_jobs.cli.framework.output import log, print_line
from mauntic_jobs.cli.framework.scheduled_jobs import scheduled_jobs
from mauntic_jobs.errors import UsageError
from mauntic_jobs.ops.status.metrics import PARTS, families
from mauntic_jobs.ops.status.read import read_status
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.connection import database_url
from mauntic_jobs.telemetry.metrics import exposition
from mauntic_jobs.timekeeping import clock


@command(root, "metrics", example="mauntic-jobs metrics queues deliveries")
def print_metrics(
    settings: Settings,
    parts: Annotated[
        list[str] | None, typer.Argument(metavar="[PART]...", help=f"{', '.join(PARTS)}. Default: all.")
    ] = None,
) -> None:
    """Print the numbers of jobs, queues and deliveries in Prometheus's text format.

    If Postgres or Redis is away it prints what is left, says so as mauntic_store_up, and exits 69.
    """
    unknown = [part for part in parts or [] if part not in PARTS]
    if unknown:
        raise UsageError(f"There is no part {', '.join(unknown)}. The parts are: {', '.join(PARTS)}.")
    database_url(settings)
    status = read_status(settings, list(scheduled_jobs(settings).values()), clock.now())
    print_line(exposition(families(status, parts or PARTS)).decode().rstrip())
    for error in status.problems.values():
        log(f"mauntic-jobs: {error}")
    for error in status.problems.values():
        raise typer.Exit(error.exit_code)
