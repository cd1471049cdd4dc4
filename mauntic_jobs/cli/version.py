"""`version`: the version of the program."""

import typer

from mauntic_jobs import __version__
from mauntic_jobs.cli.framework.command import command
from mauntic_jobs.cli.framework.output import print_line


def register_version(app: typer.Typer) -> None:
    """Add the command to the application."""
    command(app, "version", example="mauntic-jobs version")(show_version)


def show_version() -> None:
    """Print the version, as --version does."""
    print_line(f"mauntic-jobs {__version__}")
