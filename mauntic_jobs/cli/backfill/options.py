"""Options that `backfill` and `coverage` share: the range, and what the job is limited to."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, NamedTuple

import typer

from mauntic_jobs.backfill.plan import Reprocess
from mauntic_jobs.cli.framework.completion import organizations
from mauntic_jobs.cli.job.options import validated
from mauntic_jobs.cli.job.window import WindowOptions, window_of
from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import AnyJob, JobOptions
from mauntic_jobs.timekeeping.window import Window

_PANEL = "Range (one of them)"

From = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help="From this UTC day or instant.", rich_help_panel=_PANEL)
]
To = Annotated[
    str | None,
    typer.Option("--to", metavar="TIME", help="Up to here, without it. Default: now.", rich_help_panel=_PANEL),
]
WindowRange = Annotated[
    str | None, typer.Option(metavar="START/END", help="Half-open, ISO 8601, UTC.", rich_help_panel=_PANEL)
]
Last = Annotated[
    str | None, typer.Option(metavar="TIME", help="Such as 90d, up to the last full hour.", rich_help_panel=_PANEL)
]
Month = Annotated[str | None, typer.Option(metavar="YYYY-MM", help="A UTC month.", rich_help_panel=_PANEL)]
Orgs = Annotated[
    list[str] | None,
    typer.Option("--org", metavar="ID", help="Only this organization; may be repeated.", autocompletion=organizations),
]
Reprocessed = Annotated[
    list[Reprocess] | None,
    typer.Option(
        "--reprocess",
        metavar="STATE",
        help="missing (the default, with failed ones), failed, stale or all; repeatable.",
    ),
]
NewestFirst = Annotated[bool, typer.Option("--newest-first", help="Begin with the latest window.")]
Parallel = Annotated[
    int, typer.Option(min=1, max=16, metavar="N", help="Run so many windows at a time, with --enqueue over all hosts.")
]
StopAfterFailures = Annotated[
    int, typer.Option(min=1, max=1_000_000, metavar="N", help="Pause when so many runs have failed.")
]
AllowShrink = Annotated[
    bool, typer.Option("--allow-shrink", help="Let values go down, or away, where raw events are gone.")
]
Number = Annotated[int, typer.Argument(min=1, max=2**63 - 1, metavar="ID", help="Its number, from `backfill list`.")]
FailedOnly = Annotated[bool, typer.Option("--failed-only", help="Only windows that have failed.")]
Enqueued = Annotated[
    bool, typer.Option("--enqueue", help="Put the windows on the job's BullMQ queue, for `work` processes of any host.")
]


class RangeOptions(NamedTuple):
    """What the command line says about the range: `start`, maybe with `end`, or one of the others."""

    start: str | None = None
    end: str | None = None
    window: str | None = None
    last: str | None = None
    month: str | None = None


def range_of(job: AnyJob, now: datetime, given: RangeOptions) -> Window:
    """Return the range that the options name. Raises UsageError for none, several, an empty one or one to come."""
    ways = {"--from": given.start, "--window": given.window, "--last": given.last, "--month": given.month}
    used = [name for name, value in ways.items() if value is not None]
    if given.end is not None and given.start is None:
        raise UsageError("--to needs --from: say where the range begins, too.")
    if len(used) != 1:
        problem = "Say which windows" if not used else "Name the range in one way only"
        raise UsageError(f"{problem}: --from and --to, --window, --last or --month.")
    window = given.window
    if given.start is not None:
        window = f"{given.start}/{given.end if given.end is not None else now.isoformat()}"
    return window_of(job, now, WindowOptions(window=window, last=given.last, month=given.month))[0]


def options_of(job: AnyJob, given: Mapping[str, list[str] | bool | None]) -> JobOptions:
    """Return the job's options, of those `given` that are set. Raises UsageError for one that the job does not have."""
    missing = [name for name, value in given.items() if value and name not in job.options.model_fields]
    if missing:
        raise UsageError(f"{job.name} has no --{missing[0].replace('_', '-')}: leave it out.")
    return validated(job.options, {name: value for name, value in given.items() if value})
