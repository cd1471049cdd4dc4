"""The daily rollups of some days, as the story shows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from uuid import UUID

from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import Window

_sql = statements("demo")


@dataclass(frozen=True)
class Rollups:
    """Events and distinct contacts by organization, event type and day; a day without any has no entry."""

    days: Sequence[date]
    counts: dict[tuple[UUID, str, date], int]
    distinct: dict[tuple[UUID, str, date], int]

    def by_day(self, organization: UUID, event_type: str) -> list[int]:
        """Return the events of one type on each day."""
        return [self.counts.get((organization, event_type, day), 0) for day in self.days]

    def all_by_day(self, organization: UUID) -> list[int]:
        """Return the events of all types on each day."""
        totals = dict.fromkeys(self.days, 0)
        for (owner, _, day), count in self.counts.items():
            if owner == organization:
                totals[day] += count
        return list(totals.values())


def read_rollups(session: Session, days: Window) -> Rollups:
    """Read the rollups of whole days."""
    rows = session.rows(_sql["rollups"], {"start": days.start.date(), "end": days.end.date()})
    keys = [(row["organization_id"], row["event_type"], row["date"]) for row in rows]
    return Rollups(
        days=[days.start.date() + timedelta(days=number) for number in range((days.end - days.start).days)],
        counts=dict(zip(keys, (row["count"] for row in rows), strict=True)),
        distinct=dict(zip(keys, (row["unique_count"] for row in rows), strict=True)),
    )
