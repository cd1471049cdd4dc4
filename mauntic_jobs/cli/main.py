"""The command `mauntic-jobs`: cron calls it every minute, so that only what is called is imported."""

import gc
import io
import os
import sys
from importlib import import_module
from typing import Annotated

import typer

from mauntic_jobs import __version__
from mauntic_jobs.cli.framework.command import new_app, root
from mauntic_jobs.cli.framework.output import print_line
from mauntic_jobs.cli.outline import COMMANDS, JOBS, PANELS, RUN, Entry

_HELP = (
    "Scheduled jobs and message delivery for the Mauntic marketing platform.\n\n"
    "Every option can be set in the environment: --limit of `runs list` is MAUNTIC_RUNS_LIST_LIMIT."
)
_COMPLETION = "_MAUNTIC_JOBS_COMPLETE"
_HELP_OPTIONS = ("-h", "--help")


def program(first: str | None) -> typer.Typer:
    """Return the program as far as it is needed for a command line whose first word is this, None if it has none."""
    if first == "--version":
        return _empty()
    if first in COMMANDS or first in JOBS:
        return application(first)
    if first is None or first in _HELP_OPTIONS:
        return _outline()
    from mauntic_jobs.jobs.plugin_names import plugin_names

    # A word that is not known is refused, with the command that it may be meant to be.
    return application(first) if first.startswith("-") or first in plugin_names() else _outline()


def application(only: str | None = None) -> typer.Typer:
    """Return the program with all its commands, or with those of the kind that `only` names."""
    app = _empty()
    if only not in COMMANDS:
        import_module("mauntic_jobs.cli.job.commands").register_jobs(app)
    if any(each.name == only for each in app.registered_commands):
        return _in_panels(app)
    for name in COMMANDS:
        if only not in COMMANDS or name == only:
            module = import_module(f"mauntic_jobs.cli.{name.replace('-', '_')}")
            if hasattr(module, "__path__"):
                module = import_module(f"mauntic_jobs.cli.{name}.commands")
            if hasattr(module, "app"):
                app.add_typer(module.app, name=name)
            else:
                app.registered_commands += [each for each in root.registered_commands if each.name == name]
    return _in_panels(app)


def _empty() -> typer.Typer:
    app = new_app(_HELP, auto_envvar_prefix="MAUNTIC", completion=True)
    app.callback(help=_HELP)(_root)
    return app


def _outline() -> typer.Typer:
    """Return the program with its commands in name only, for what does not run any."""
    from mauntic_jobs.jobs.plugin_names import plugin_names

    app = _empty()
    entries: dict[str, Entry] = {**JOBS, **COMMANDS}
    if plugin_names():
        # What they are for stands in their packages.
        import_module("mauntic_jobs.cli.job.commands").register_jobs(app)
        entries = dict(COMMANDS)
    for name, entry in entries.items():
        app.command(name, help=entry.summary)(_no_command)
    return _in_panels(app)


def _no_command() -> None:
    """Stand for a command whose name is all that is needed."""


def _in_panels(app: typer.Typer) -> typer.Typer:
    """Let help list the commands under what they are for."""
    panels = {name: entry.panel for name, entry in COMMANDS.items()}
    for one in app.registered_commands:
        one.rich_help_panel = panels.get(one.name or "", RUN)
    for group in app.registered_groups:
        group.rich_help_panel = panels.get(group.name or "", RUN)
    # A panel stands where its first command does.
    app.registered_commands.sort(key=lambda each: PANELS.index(panels.get(each.name or "", RUN)))
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
    first = sys.argv[1] if len(sys.argv) > 1 else None
    try:
        app = application() if _COMPLETION in os.environ else program(first)
        # What was imported stays, and need not be looked through again.
        gc.freeze()
        gc.enable()
        app(prog_name="mauntic-jobs")
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
