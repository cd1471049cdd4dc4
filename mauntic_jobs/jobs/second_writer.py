"""Another program that writes the daily rollups, such as the platform's own hourly aggregation.

That one adds the events of the hour that has ended to the day's rows. A rebuild corrects the rows each time, but until
then they are too high, and a row that was raised looks like raw events that are gone.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import accumulate

from mauntic_jobs.job import Context, JobOptions, Row, Transaction
from mauntic_jobs.sql import statements
from mauntic_jobs.timekeeping.window import Unit, Window, naive
from mauntic_jobs.wording import plural

_HOUR = timedelta(hours=1)
# A platform that added the hours of a longer time is noticed all the same, but not by which hours.
_MAX_HOURS = 48
_STOP = "if that is the platform's own aggregation, stop it: docs/cut-over.md"

_sql = statements("rollup_days")


class SecondWriter:
    """The look at one day's rollups: begun before they are rebuilt, and recorded after.

    `problem` says that another program has changed them since they were recorded last, or is None. `adds_hours` says
    that it added exactly the events of whole hours: what is too high then is not a sign of raw events that are gone.
    """

    def __init__(self, context: Context[JobOptions], day: Window) -> None:
        self._context = context
        self._date = day.start.date()
        row = context.transaction.row(_sql["read"], {"date": self._date})
        # What stood there before the first rebuild is not a second writer's.
        self._growth = 0 if row["recorded_events"] is None else row["events"] - row["recorded_events"]
        hours = self._hours_added(row["recorded_at"]) if self._growth > 0 else []
        self.adds_hours = bool(hours)
        self.problem = self._describe(hours) if self._growth else None

    def record(self) -> None:
        """Record what the day's rollups add up to now."""
        foreign = self._growth or None
        parameters = {"date": self._date, "now": self._context.now, "foreign_events": foreign}
        self._context.transaction.execute(_sql["record"], parameters)

    def _describe(self, hours: Sequence[datetime]) -> str:
        if hours:
            return (
                f"another program has added the {_events(self._growth)} of {_clock(hours[0])}-"
                f"{_clock(hours[-1] + _HOUR)} to the rollups of {self._date}; {_STOP}"
            )
        by = "raised" if self._growth > 0 else "lowered"
        return f"another program has {by} the rollups of {self._date} by {_events(abs(self._growth))}; {_STOP}"

    def _hours_added(self, recorded_at: datetime) -> Sequence[datetime]:
        """Return the hours, one or several in a row up to now, whose events are exactly what the rollups grew by."""
        latest = Unit.HOUR.floor(self._context.now)
        first = max(Unit.HOUR.floor(recorded_at) - _HOUR, latest - _MAX_HOURS * _HOUR)
        zone = self._context.settings.platform_zone
        asked = {"start": naive(first, zone), "end": naive(latest, zone)}
        rows: list[Row] = self._context.transaction.read(_sql["hours"], asked)
        hours = [first + row["number"] * _HOUR for row in reversed(rows)]
        counts = [row["events"] for row in reversed(rows)]
        if self._growth in counts:
            return [hours[counts.index(self._growth)]]
        for number, total in enumerate(accumulate(counts)):
            if total == self._growth:
                return hours[number::-1]
        return []


def is_as_recorded(transaction: Transaction, day: Window) -> bool:
    """Return whether a day's rollups add up to what they added up to after the last rebuild."""
    row = transaction.row(_sql["read"], {"date": day.start.date()})
    return bool(row["events"] == row["recorded_events"])


def _events(count: int) -> str:
    return plural(count, "event")


def _clock(hour: datetime) -> str:
    return f"{hour:%H:%M}"
