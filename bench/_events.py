"""Events to measure with: made by the server, the same on every machine, as an append-only table holds them."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bench._common import connect, say, statements
from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.migrations.upgrade import upgrade
from mauntic_jobs.settings.sources import load as load_settings
from mauntic_jobs.stores.postgres.session import connect as open_store
from mauntic_jobs.timekeeping.window import Unit, Window, naive

_FIRST_DAY = datetime(2025, 6, 1, tzinfo=UTC)
_ROWS_A_DAY = 1_000_000
# With 1 M events a day: 3 M contacts with 10 events a month each.
_CONTACTS_PER_ROW_A_DAY = 3


@dataclass(frozen=True)
class Events:
    """What was generated: whole days, each of `rows_a_day` events. `facts` describes the table and its last day."""

    window: Window
    rows_a_day: int
    facts: dict[str, Any]

    @property
    def rows(self) -> int:
        """All events."""
        return self.rows_a_day * len(self.days)

    @property
    def days(self) -> list[Window]:
        """The days, oldest first."""
        return list(self.window.split(Unit.DAY))

    def described(self) -> dict[str, Any]:
        """Return everything about the events, to be printed."""
        return {"rows": self.rows, "rows_a_day": self.rows_a_day, "days": len(self.days), **self.facts}


def load(url: str, rows: int, most_a_day: int = _ROWS_A_DAY) -> Events:
    """Create the platform's tables, bring the database up to date, and fill it with `rows` events."""
    settings, _ = load_settings({"database_url": url})
    with open_store(settings) as session:
        create_platform(session)
    upgrade(settings, lambda _: None)
    rows_a_day = min(rows, most_a_day)
    window = Window(_FIRST_DAY, _FIRST_DAY + timedelta(days=rows // rows_a_day))
    events = Events(window, rows_a_day, {})
    own = statements("events")
    started = time.perf_counter()
    with connect(url) as connection:
        connection.execute(own["schema"])
        connection.execute(own["organizations"], {"contacts": rows_a_day * _CONTACTS_PER_ROW_A_DAY})
        connection.execute(own["event_types"])
        connection.execute(own["unindexed"])
        for number, day in enumerate(events.days):
            parameters = {"first": number * rows_a_day, "rows": rows_a_day, "start": naive(day.start)}
            connection.execute(own["day"], parameters)
        connection.execute(own["indexed"])
        connection.execute(own["settled"])
        last = {"start": naive(events.days[-1].start), "end": naive(events.days[-1].end)}
        (facts,) = connection.execute(own["described"], last)
    say(f"generated {rows:,} events in {time.perf_counter() - started:.0f} s")
    return Events(window, rows_a_day, facts)
