"""Quiet hours: the hours of a recipient's day in which a channel sends no marketing."""

import re
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import NamedTuple, Self

# Telephone solicitations in the United States, by the recipient's local time: 47 CFR 64.1200(c)(1).
PRESETS = {"us": "21:00-08:00"}
_PERIOD = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


class QuietHours(NamedTuple):
    """From when to when nothing is sent, by local time; over midnight where the end comes first."""

    start: time
    end: time

    @classmethod
    def read(cls, text: str) -> Self:
        """Return what a text like `21:00-08:00` says, or a name of PRESETS. Raises ValueError with what it must be."""
        found = _PERIOD.fullmatch(PRESETS.get(text, text))
        if found is None or found.group(1, 2) == found.group(3, 4):
            raise ValueError(f"it must be two times of a day, like 21:00-08:00, or one of: {', '.join(PRESETS)}")
        first, first_minute, last, last_minute = map(int, found.groups())
        return cls(time(first, first_minute), time(last, last_minute))

    def end_after(self, now: datetime, zone: tzinfo) -> datetime | None:
        """Return when the quiet hours around an aware instant end in a zone, in UTC, or None if there are none then."""
        local = now.astimezone(zone)
        at, is_over_midnight = local.time(), self.end < self.start
        is_quiet = at >= self.start or at < self.end if is_over_midnight else self.start <= at < self.end
        if not is_quiet:
            return None
        day = local.date() + timedelta(days=is_over_midnight and at >= self.start)
        # In an hour that comes twice, the second end is that of its second time.
        return datetime.combine(day, self.end.replace(fold=local.fold), zone).astimezone(UTC)

    def __str__(self) -> str:
        """Return them as `read` takes them."""
        return f"{self.start:%H:%M}-{self.end:%H:%M}"
