"""`help`: the help of the program or of one of its commands."""

from typing import Annotated

import typer

from mauntic_jobs.cli.framework.command import command, root


@command(root, "help", example="mauntic-jobs help deliveries list")
def show_help(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND]...", help="Such as `deliveries list`. Default: all.")
    ] = None,
) -> None:
    """Show the help of a command, as its --help does."""
    from mauntic_jobs.cli.main import program

    chosen = words or []
    program(chosen[0] if chosen else None)([*chosen, "--help"], prog_name="mauntic-jobs")
