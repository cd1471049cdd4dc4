"""`status`: the state of an installation on one screen."""

import sys
from typing import Annotated

import typer

from mauntic_jobs.cli.documents.status import StatusJson
from mauntic_jobs.cli.framework.command import JsonOutput, command, root
from mauntic_jobs.cli.framework.output import Escaped, print_json, print_rich, terminal_width
from mauntic_jobs.cli.framework.scheduled_jobs import name_broken_jobs, scheduled_jobs
from mauntic_jobs.cli.framework.signals import Signals
from mauntic_jobs.cli.status.as_json import as_json
from mauntic_jobs.cli.status.screen import screen
from mauntic_jobs.errors import UsageError
from mauntic_jobs.ops.status.read import InstallationStatus, read_status
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.connection import database_url
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import parse_duration

_MIN_INTERVAL_SECONDS = 1.0


@command(root, "status", example="mauntic-jobs status --watch", prints=StatusJson)
def show_status(
    settings: Settings,
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again and again, until Ctrl-C.")] = False,
    every: Annotated[str, typer.Option(metavar="TIME", help="With --watch: how often.")] = "2s",
    json: JsonOutput = False,
) -> None:
    """Show how jobs, queues, deliveries and alerts stand. Red is where an operator must act.

    Exits 0 whatever it sees, and 69 if Postgres or Redis is away; the other's half is shown all the same.
    """
    database_url(settings)
    seconds = parse_duration(every).total_seconds()
    if seconds < _MIN_INTERVAL_SECONDS:
        raise UsageError(f"--every {every} is too often: at most once a second.")
    if not watch:
        _end(_once(settings, json=json))
    elif json:
        _end(_stream(settings, seconds))
    elif sys.stdout.isatty():
        _end(_watch(settings, seconds))
    else:
        raise UsageError("--watch needs a terminal; with --json it prints a line for each look.")


def _once(settings: Settings, *, json: bool) -> InstallationStatus:
    status = _look(settings)
    if json:
        print_json(as_json(status))
    else:
        print_rich(screen(status, terminal_width()))
        name_broken_jobs()
    return status


def _stream(settings: Settings, seconds: float) -> InstallationStatus:
    with Signals() as signals:
        while True:
            status = _look(settings)
            print_json(as_json(status))
            if signals.first.wait(seconds):
                return status


def _watch(settings: Settings, seconds: float) -> InstallationStatus:
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    live = Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
    with Signals() as signals, live:
        while True:
            status = _look(settings)
            live.update(Escaped(screen(status, console.width)), refresh=True)
            if signals.first.wait(seconds):
                return status


def _look(settings: Settings) -> InstallationStatus:
    return read_status(settings, list(scheduled_jobs(settings).values()), clock.now())


def _end(status: InstallationStatus) -> None:
    for error in status.problems.values():
        raise typer.Exit(error.exit_code)
