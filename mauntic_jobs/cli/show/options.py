"""Options that the commands of `show` and `explain` share."""

from datetime import datetime
from typing import Annotated

import typer

from mauntic_jobs.cli.job.window import WindowOptions, window_of
from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import AnyJob
from mauntic_jobs.timekeeping.window import Unit, Window

Date = Annotated[str | None, typer.Option(metavar="DAY", help="A UTC day: 2026-10-01, today or yesterday.")]
Last = Annotated[str | None, typer.Option(metavar="TIME", help="Such as 30d, up to the last full hour.")]
Month = Annotated[str | None, typer.Option(metavar="YYYY-MM", help="A UTC month.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
History = Annotated[
    bool, typer.Option("--history", help="What runs changed in them, the latest first, instead. Needs --org.")
]


def days_of(job: AnyJob, now: datetime, given: WindowOptions, default: WindowOptions) -> Window:
    """Return the whole UTC days that the options name, or by default. Raises UsageError for several or days to come."""
    names = [name for name, value in given._asdict().items() if value is not None]
    if len(names) > 1:
        raise UsageError(f"Give only one of {', '.join(f'--{name}' for name in names)}.")
    return window_of(job, now, given if names else default)[0].aligned(Unit.DAY)


def month_of(job: AnyJob, now: datetime, month: str | None) -> Window:
    """Return a whole UTC month, by default the last that is over. Raises UsageError for one to come."""
    if month is None:
        return Window.before(now, Unit.MONTH)
    return window_of(job, now, WindowOptions(month=month))[0].aligned(Unit.MONTH)
