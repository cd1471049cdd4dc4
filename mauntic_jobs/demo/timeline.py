"""The sample's events in the order of their times, as lines that COPY reads.

Times are whole milliseconds since the sample's first midnight.
"""

from datetime import datetime, timedelta

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Timeline:
    """The lines of the days to come, as COPY reads them; what lies at or after `end` has not happened yet."""

    def __init__(self, start: datetime, end: datetime) -> None:
        self.added = 0
        self._end = (end - start) // timedelta(milliseconds=1)
        self._dates = [f"{start + timedelta(days=day):%Y-%m-%d}" for day in range(-(-self._end // DAY))]
        self._lines: list[list[str]] = [[] for _ in self._dates]

    @property
    def days(self) -> range:
        """The days, from 0; the last may be partial."""
        return range(len(self._dates))

    def add(self, at: int, event: str, contact: str, rest: str) -> None:
        """Add an event. `rest` is its line from the organization on."""
        if at >= self._end:
            return
        day, milliseconds = divmod(at, DAY)
        minute, milliseconds = divmod(milliseconds, MINUTE)
        self._lines[day].append(
            f"{self._dates[day]} {minute // 60:02}:{minute % 60:02}:{milliseconds / 1000:06.3f}"
            f"\t{event}\t{contact}\t{rest}"
        )
        self.added += 1

    def take(self, day: int) -> str:
        """Return the day's lines in the order of their times, and forget them."""
        lines, self._lines[day] = self._lines[day], []
        lines.sort()
        return "".join(lines)
