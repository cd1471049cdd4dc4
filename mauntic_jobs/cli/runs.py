"""`runs`: the ledger of runs."""

from typing import Annotated

import typer

from mauntic_jobs.cli.documents.runs import RunJson
from mauntic_jobs.cli.framework.command import JsonOutput, command, new_app
from mauntic_jobs.cli.framework.completion import job_names, statuses
from mauntic_jobs.cli.framework.options import Limit, Wide
from mauntic_jobs.cli.framework.output import counters_text, print_fields, print_json, print_table
from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import Row
from mauntic_jobs.jobs.registry import find_job
from mauntic_jobs.runner import history as ledger
from mauntic_jobs.runner.request import Status
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import Window, parse_ago

app = new_app("The ledger: which job ran when, for which window, and how it ended.")

_RECORDED = [status.value for status in Status if status is not Status.DRY_RUN]


@command(app, "list", example="mauntic-jobs runs list --status failed --since 24h", prints=list[RunJson])
def list_runs(
    settings: Settings,
    *,
    job: Annotated[str | None, typer.Option(metavar="JOB", help="Only this job.", autocompletion=job_names)] = None,
    status: Annotated[
        str | None, typer.Option(metavar="STATUS", help=f"One of {', '.join(_RECORDED)}.", autocompletion=statuses)
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Such as 24h: begun no longer ago.")] = None,
    limit: Limit = 20,
    wide: Wide = False,
    json: JsonOutput = False,
) -> None:
    """List runs, latest first."""
    if job is not None:
        find_job(job)
    if status is not None and status not in _RECORDED:
        raise UsageError(f"There is no status {status}. It is one of {', '.join(_RECORDED)}.")
    begun_after = None if since is None else parse_ago(since, clock.now())
    with connect(settings) as session:
        rows = ledger.list_runs(
            session, job=job, status=Status(status) if status else None, since=begun_after, limit=limit
        )
    if json:
        print_json(rows)
    else:
        print_table([_line(row) for row in rows], columns=_COLUMNS, wide=wide)


@command(app, "show", example="mauntic-jobs runs show 42 --json", prints=RunJson)
def show_run(
    settings: Settings,
    run: Annotated[int, typer.Argument(min=1, max=2**63 - 1, metavar="RUN", help="Its number, from `runs list`.")],
    *,
    json: JsonOutput = False,
) -> None:
    """Show everything that the ledger holds about one run."""
    with connect(settings) as session:
        row = ledger.show_run(session, run)
    if json:
        print_json(row)
    else:
        print_fields([(name, _text(row[name])) for name in _SHOWN if row[name] not in (None, "", {})])


# What `show` prints, what an operator asks first standing first; `--json` has everything.
_SHOWN = (
    *("id", "job", "status", "error", "window_start", "window_end", "slot", "started_at", "finished_at", "seconds"),
    *("counters", "options", "attempt", "launcher", "launcher_id", "host", "pid", "version", "heartbeat_at"),
    *("claims_slot", "fencing_token"),
)
_COLUMNS = ("run", "job", "window", "status", "launcher", "started", "seconds", "attempt", "result")


def _line(row: Row) -> Row:
    return {
        "run": row["id"],
        "job": row["job"],
        "window": str(Window(row["window_start"], row["window_end"])),
        "status": row["status"],
        "launcher": row["launcher"],
        "started": row["started_at"],
        "seconds": row["seconds"],
        "attempt": row["attempt"],
        "result": row["error"] or counters_text(row["counters"]),
    }


def _text(value: object) -> object:
    if isinstance(value, dict):
        return ", ".join(f"{name}={item}" for name, item in value.items())
    return value
