"""Frequency caps: how many messages of a channel a contact gets in a period."""

import re
from datetime import timedelta
from typing import NamedTuple, Self

from mauntic_jobs.errors import UsageError
from mauntic_jobs.timekeeping.window import format_duration, parse_duration

SHORTEST, LONGEST = timedelta(hours=1), timedelta(days=31)
_MOST = 100
_CAP = re.compile(r"([1-9][0-9]{0,2}) in (\S+)")


class FrequencyCap(NamedTuple):
    """At most `most` messages in any `period`."""

    most: int
    period: timedelta

    @classmethod
    def read(cls, text: str) -> Self:
        """Return what a text like `3 in 7d` says. Raises ValueError with what it must be."""
        found = _CAP.fullmatch(text)
        try:
            cap = cls(int(found[1]), parse_duration(found[2])) if found else None
        except UsageError:
            cap = None
        if cap is None or cap.most > _MOST or not SHORTEST <= cap.period <= LONGEST:
            shortest, longest = format_duration(SHORTEST), format_duration(LONGEST)
            raise ValueError(f"it must be a number up to {_MOST} and a period of {shortest} to {longest}, like 3 in 7d")
        return cap

    def __str__(self) -> str:
        """Return it as `read` takes it."""
        return f"{self.most} in {format_duration(self.period)}"
