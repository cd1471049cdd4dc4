"""Half-open windows of time in UTC: how they are written, what they cover, and how they are cut into buckets."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Self

from mauntic_jobs.errors import UsageError

_DURATION = re.compile(r"(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?", re.ASCII)


class Unit(StrEnum):
    """A calendar unit of UTC time."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"

    def floor(self, instant: datetime) -> datetime:
        """Return the start of the unit that `instant` lies in."""
        match self:
            case Unit.HOUR:
                return instant.replace(minute=0, second=0, microsecond=0)
            case Unit.DAY:
                return instant.replace(hour=0, minute=0, second=0, microsecond=0)
            case Unit.MONTH:
                return instant.replace(day=1, hour=0, minute=0, second=0, microsecond=0)

    def after(self, start: datetime) -> datetime:
        """Return the start of the unit that follows the one `start` lies in. Raises UsageError after the last one."""
        # The 1st plus 31 days is always in the next month.
        length = {Unit.HOUR: timedelta(hours=1), Unit.DAY: timedelta(days=1), Unit.MONTH: timedelta(days=31)}[self]
        return self.floor(_later(self.floor(start), length))


@dataclass(frozen=True, order=True)
class Window:
    """The instants from `start`, included, to `end`, excluded; both aware, and in UTC whatever zone they came in."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError(f"a window is made of aware instants, not {self.start!r} and {self.end!r}")
        object.__setattr__(self, "start", self.start.astimezone(UTC))
        object.__setattr__(self, "end", self.end.astimezone(UTC))
        if self.start >= self.end:
            raise UsageError(f"The window {self} is empty: its end must come after its start.")

    @classmethod
    def before(cls, slot: datetime, unit: Unit) -> Self:
        """Return the last whole unit that ended at or before `slot`: the data that the slot's run covers."""
        end = unit.floor(slot)
        return cls(unit.floor(end - timedelta(microseconds=1)), end)

    def aligned(self, unit: Unit) -> Self:
        """Return the smallest window of whole units that contains this one."""
        end = unit.floor(self.end)
        return type(self)(unit.floor(self.start), end if end == self.end else unit.after(end))

    def split(self, unit: Unit | None) -> Iterator[Self]:
        """Yield this window cut at every boundary of `unit`, oldest first; whole if that is None."""
        if unit is None:
            yield self
            return
        start = self.start
        while start < self.end:
            end = min(unit.after(start), self.end)
            yield type(self)(start, end)
            start = end

    def __str__(self) -> str:
        if all(instant == Unit.DAY.floor(instant) for instant in (self.start, self.end)):
            return f"{self.start.date()}/{self.end.date()}"
        return f"{_text(self.start)}/{_text(self.end)}"


def naive(instant: datetime, zone: tzinfo = UTC) -> datetime:
    """Return the instant as the platform's `timestamp` columns hold it: in UTC unless `zone` is another, without it."""
    return instant.astimezone(zone).replace(tzinfo=None)


def parse_instant(text: str) -> datetime:
    """Read an ISO 8601 date or date and time; without an offset it is UTC. Raises UsageError."""
    try:
        instant = datetime.fromisoformat(text.strip())
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"Cannot read {text!r} as a time: write it like 2026-10-01 or 2026-10-01T09:00 (UTC)."
        ) from None


def parse_date(text: str, now: datetime) -> Window:
    """Read a UTC day, as YYYY-MM-DD, `today` or `yesterday`. Raises UsageError."""
    days_ago = {"today": 0, "yesterday": 1}.get(text.strip().lower())
    if days_ago is not None:
        start = Unit.DAY.floor(now) - timedelta(days=days_ago)
    elif re.fullmatch(r"\d{4}-\d{2}-\d{2}", text.strip()):
        start = parse_instant(text)
    else:
        raise UsageError(f"Cannot read {text!r} as a date: write it like 2026-10-01, today or yesterday.")
    return Window(start, Unit.DAY.after(start))


def parse_window(text: str) -> Window:
    """Read START/END, two ISO 8601 times. Raises UsageError."""
    times = text.split("/")
    if len(times) != 2:  # noqa: PLR2004 - START and END
        raise UsageError(f"Cannot read {text!r} as a window: write START/END, like 2026-10-01T09:00/2026-10-01T12:00.")
    return Window(parse_instant(times[0]), parse_instant(times[1]))


def parse_last(text: str, now: datetime) -> Window:
    """Read a length of time, such as 3d, as the window of that length that ends with the last full hour."""
    end = Unit.HOUR.floor(now)
    return Window(parse_ago(text, end), end)


def parse_ago(text: str, now: datetime) -> datetime:
    """Read a length of time as the instant that long before `now`. Raises UsageError."""
    try:
        return now - parse_duration(text)
    except OverflowError:
        raise UsageError(f"Cannot go {text} back: the calendar does not reach that far.") from None


def parse_duration(text: str) -> timedelta:
    """Read a length of time such as 90s, 15m, 2h, 3d, 1w or 1d12h. Raises UsageError."""
    match = _DURATION.fullmatch(text.strip().lower())
    if not match or not any(match.groups()):
        raise UsageError(f"Cannot read {text!r} as a length of time: write it like 90s, 15m, 2h, 3d or 1d12h.")
    weeks, days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    try:
        return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError:
        raise UsageError(f"{text} is too long a time.") from None


def format_duration(duration: timedelta) -> str:
    """Write a length of time the way `parse_duration` reads it."""
    parts, rest = [], duration
    for unit, size in (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1))):
        whole, rest = divmod(rest, size)
        if whole:
            parts.append(f"{whole}{unit}")
    if rest or not parts:
        parts.append(f"{rest.total_seconds():.6f}".rstrip("0").rstrip(".") + "s")
    return "".join(parts)


def _later(instant: datetime, length: timedelta) -> datetime:
    try:
        return instant + length
    except OverflowError:
        raise UsageError(f"{instant.date()} is too late: the calendar ends there.") from None


def _text(instant: datetime) -> str:
    timespec = "minutes" if not (instant.second or instant.microsecond) else "auto"
    return instant.replace(tzinfo=None).isoformat(timespec=timespec) + "Z"
