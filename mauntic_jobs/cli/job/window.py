"""The window that a job's command is to cover: what its options say, or else its latest cron slot."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import AnyJob
from mauntic_jobs.runner.request import silent
from mauntic_jobs.timekeeping.cron import latest_slot
from mauntic_jobs.timekeeping.window import Unit, Window, naive, parse_date, parse_instant, parse_last, parse_window

_MONTH = re.compile(r"(?!0000)([0-9]{4})-(0[1-9]|1[0-2])")
_MIN_START = datetime(1970, 1, 2, tzinfo=UTC)


class WindowOptions(NamedTuple):
    """What the command line says about the window, at most one of them; see their help for what each means."""

    date: str | None = None
    window: str | None = None
    last: str | None = None
    month: str | None = None
    slot: str | None = None

    @property
    def by_cron_line(self) -> bool:
        """Whether the job's cron line decides about the window."""
        return not any((self.date, self.window, self.last, self.month))


def window_of(
    job: AnyJob, now: datetime, options: WindowOptions, *, launched: bool = False, log: Callable[[str], None] = silent
) -> tuple[Window, datetime | None]:
    """Return the window that the options name, and its slot if they name that or nothing: then the latest decides.

    `log` gets a sentence about a window that has not ended. With `launched` the slot is one that a launcher has decided
    on, maybe by a cron line that has been changed since.

    Raises UsageError for options that contradict each other and for windows that have not begun.
    """
    if sum(option is not None for option in options) > 1:
        names = ["--date", "--window", "--last", *(["--month"] if job.unit is Unit.MONTH else [])]
        raise UsageError(f"Give only one of {', '.join(names)} and --slot.")
    chosen = _parse_options(options, now)
    if chosen is None:
        slot = parse_instant(str(options.slot)) if launched else _slot_of(job, options.slot, now)
        return Window.before(slot, job.unit), slot
    if chosen.start >= now:
        raise UsageError(f"The window {chosen} is in the future: it is {naive(now):%Y-%m-%dT%H:%M}Z now.")
    if chosen.start < _MIN_START:
        raise UsageError(f"The window {chosen} starts before 1970: check the year.")
    if chosen.end > now:
        log(f"The window {chosen} ends in the future: what has happened so far is counted.")
    # Days that have not begun hold nothing.
    return Window(chosen.start, min(chosen.end, Unit.DAY.after(now))), None


def _parse_options(options: WindowOptions, now: datetime) -> Window | None:
    if options.date is not None:
        return parse_date(options.date, now)
    if options.window is not None:
        return parse_window(options.window)
    if options.last is not None:
        return parse_last(options.last, now)
    return None if options.month is None else _parse_month(options.month)


def _slot_of(job: AnyJob, text: str | None, now: datetime) -> datetime:
    if text is None or text.strip().lower() == "latest":
        return latest_slot(job.cron, now)
    slot = parse_instant(text)
    if slot > now:
        raise UsageError(f"The slot {text} is in the future: it is {naive(now):%Y-%m-%dT%H:%M}Z now.")
    latest = latest_slot(job.cron, slot)
    if latest != slot:
        raise UsageError(f"{text} is no slot of `{job.cron}`: the one before it is {naive(latest):%Y-%m-%dT%H:%M}Z.")
    return slot


def _parse_month(text: str) -> Window:
    match = _MONTH.fullmatch(text.strip())
    if not match:
        raise UsageError(f"Cannot read {text!r} as a month: write it like 2026-10.")
    start = datetime(int(match[1]), int(match[2]), 1, tzinfo=UTC)
    return Window(start, Unit.MONTH.after(start))
