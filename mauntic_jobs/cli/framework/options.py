"""Options that several commands share, named alike everywhere."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import typer

from mauntic_jobs.cli.framework.completion import channels, job_names, organizations
from mauntic_jobs.delivery.channels import CHANNELS
from mauntic_jobs.errors import UsageError
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import parse_duration, parse_instant

Org = Annotated[
    UUID | None, typer.Option("--org", metavar="UUID", help="Only of this organization.", autocompletion=organizations)
]
Channel = Annotated[
    str | None, typer.Option("--channel", metavar="CHANNEL", help="email, sms or push.", autocompletion=channels)
]

JobName = Annotated[str, typer.Argument(metavar="JOB", help="The job.", autocompletion=job_names)]
Wide = Annotated[bool, typer.Option("--wide", help="Show ids and columns whole, however long the lines become.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1_000_000, metavar="N", help="At most this many.")]
Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, which others are shown.")]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="When it ends, such as 2026-10-01T09:00.")]
For = Annotated[str | None, typer.Option("--for", metavar="TIME", help="How long it lasts, such as 2h.")]
_MAX_REASON = 500


def checked_channel(channel: str | None) -> str | None:
    """Return the channel. Raises UsageError if there is none of this name."""
    if channel is not None and channel not in CHANNELS:
        raise UsageError(f"There is no channel {channel}. The channels are: {', '.join(CHANNELS)}.")
    return channel


def checked_reason(why: str) -> str:
    """Return the reason that an operator gives. Raises UsageError if it is empty or a page long."""
    if not why.strip() or len(why) > _MAX_REASON:
        raise UsageError(f"--why is a sentence of up to {_MAX_REASON} characters.")
    return why.strip()


def end_of(until: str | None, lasts: str | None) -> datetime | None:
    """Return when something ends that is to last `until` a time or for a time, None for no end. Raises UsageError."""
    if until is not None and lasts is not None:
        raise UsageError("Say either --until or --for.")
    if lasts is None:
        return parse_instant(until) if until is not None else None
    try:
        return clock.now() + parse_duration(lasts)
    except OverflowError:
        raise UsageError(f"{lasts} is too long a time: the calendar does not reach that far.") from None
