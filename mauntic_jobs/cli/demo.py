"""`demo`: the toolkit at work, on throwaway servers."""

from typing import Annotated

import typer

from mauntic_jobs.cli.framework.command import command, root
from mauntic_jobs.cli.job.output import progress
from mauntic_jobs.timekeeping import clock


@command(root, "demo", example="mauntic-jobs demo --quick")
def demo(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A week of three organizations: a few seconds.")] = False,
) -> None:
    """Run all six jobs on a month of sample activity, twice, and deliver a campaign, on servers that end with the demo.

    Needs no database and leaves nothing running.
    """
    from rich.console import Console

    from mauntic_jobs.demo.story import play

    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = 100
    play(clock.now(), console, lambda total, label: progress(total, label, quiet=False), quick=quick)
