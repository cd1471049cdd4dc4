"""The command `mauntic-jobs`: cron calls it every minute, so that only what is called is imported."""

import io
import os
import sys
from importlib import import_module
from typing import Annotated

import typer

from mauntic_jobs import __version__
from mauntic_jobs.cli.framework.command import new_app, root
from mauntic_jobs.cli.framework.output import print_line

_HELP = (
    "Scheduled jobs and message delivery for the Mauntic marketing platform.\n\n"
    "Every option can be set in the environment: --limit of `runs list` is MAUNTIC_RUNS_LIST_LIMIT."
)
_COMPLETION = "_MAUNTIC_JOBS_COMPLETE"

# In the order in which help shows them; each is made in the module of its name. The jobs come before them.
_COMMANDS = (
    *("status", "metrics", "schedule", "work", "deliver", "enqueue", "deliveries", "dlq", "providers", "runs"),
    *("backfill", "coverage", "recover"),
    *("doctor", "db", "outbox", "monitor", "alerts", "config", "dev", "demo", "new-job", "help", "version"),
)
# The headings of the help, with the commands under each; the jobs stand under the first.
_RUN = "Run jobs"
_PANELS = {
    _RUN: ("schedule", "work"),
    "Send messages": ("deliver", "deliveries", "providers", "enqueue"),
    "See how everything stands": ("status", "doctor", "runs", "coverage", "alerts", "monitor", "metrics"),
    "Put things right": ("dlq", "backfill", "recover", "outbox"),
    "Set up": ("db", "config", "dev", "demo", "new-job", "help", "version"),
}


def application(only: str | None = None) -> typer.Typer:
    """Return the program with all its commands, or with those of the kind that `only` names."""
    app = new_app(_HELP, auto_envvar_prefix="MAUNTIC", completion=True)
    app.callback(help=_HELP)(_root)
    if only not in _COMMANDS:
        import_module("mauntic_jobs.cli.job.commands").register_jobs(app)
    if any(each.name == only for each in app.registered_commands):
        return _in_panels(app)
    for name in _COMMANDS:
        if only not in _COMMANDS or name == only:
            module = import_module(f"mauntic_jobs.cli.{name.replace('-', '_')}")
            if hasattr(module, "__path__"):
                module = import_module(f"mauntic_jobs.cli.{name}.commands")
            if hasattr(module, "app"):
                app.add_typer(module.app, name=name)
            else:
                app.registered_commands += [each for each in root.registered_commands if each.name == name]
    return _in_panels(app)


def _in_panels(app: typer.Typer) -> typer.Typer:
    """Let help list the commands under what they are for."""
    panels = {name: panel for panel, names in _PANELS.items() for name in names}
    for one in app.registered_commands:
        one.rich_help_panel = panels.get(one.name or "", _RUN)
    for group in app.registered_groups:
        group.rich_help_panel = panels.get(group.name or "", _RUN)
    # A panel stands where its first command does.
    order = list(_PANELS)
    app.registered_commands.sort(key=lambda each: order.index(panels.get(each.name or "", _RUN)))
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        print_line(f"mauntic-jobs {__version__}")
        raise typer.Exit


def _root(
    *,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            allow_from_autoenv=False,  # MAUNTIC_VERSION may well mean something else
            show_envvar=False,
            metavar="",
            help="Print the version.",
        ),
    ] = False,
) -> None:
    return None


def main() -> None:
    """Run the command line of this process and exit."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Ids of jobs may be any bytes.
        sys.stdout.reconfigure(errors="backslashreplace")
    first = sys.argv[1] if len(sys.argv) > 1 and _COMPLETION not in os.environ else None
    try:
        application(only=first)(prog_name="mauntic-jobs")
    finally:
        _flush()


def _flush() -> None:
    """Write what is still buffered; where the reader has gone, exit as Typer does, and not with Python's message."""
    if not isinstance(sys.stdout, io.TextIOWrapper):
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
