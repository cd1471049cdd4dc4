"""Daily rollups of events, as rows, sums and bars."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple
from uuid import UUID

from mauntic_jobs.job import AnyJob
from mauntic_jobs.ops.figures.lineage import Lineage, Provenance, latest
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits, Session
from mauntic_jobs.timekeeping.window import Unit, Window

MESSAGE_CHANNELS = ("email", "sms", "push")
OTHER_CHANNEL = "other"

_sql = statements("figures")


class By(StrEnum):
    """What rollups are summed up by."""

    DAY = "day"
    TYPE = "type"
    CHANNEL = "channel"


class RollupRow(NamedTuple):
    """Events, and distinct contacts where the row is one of the table; a sum has no key that it was summed over."""

    organization_id: UUID | None
    date: date | None
    channel: str | None
    event_type: str | None
    events: int
    contacts: int | None
    written: Provenance


@dataclass(frozen=True)
class Rollups:
    """The rollups of whole days."""

    days: Sequence[date]
    rows: Sequence[RollupRow]

    @cached_property
    def organizations(self) -> list[UUID]:
        """The organizations, the one with most events first."""
        totals: Counter[UUID] = Counter()
        for row in self.rows:
            if row.organization_id is not None:
                totals[row.organization_id] += row.events
        return sorted(totals, key=lambda each: (-totals[each], str(each)))

    def by_day(self, event_type: str | None = None, organization: UUID | None = None) -> list[int]:
        """Return the events of one type, or of all, on each day."""
        return [self._events[organization, event_type, day] for day in self.days]

    def contacts(self, event_type: str, day: date, organization: UUID) -> int:
        """Return the distinct contacts of one rollup, 0 if there is none."""
        return self._contacts[organization, event_type, day]

    @property
    def written(self) -> Provenance:
        """Who wrote them."""
        return latest(row.written for row in self.rows)

    @cached_property
    def _events(self) -> Counter[tuple[UUID | None, str | None, date | None]]:
        totals: Counter[tuple[UUID | None, str | None, date | None]] = Counter()
        for row in self.rows:
            for organization in (row.organization_id, None):
                for event_type in (row.event_type, None):
                    totals[organization, event_type, row.date] += row.events
        return totals

    @cached_property
    def _contacts(self) -> Counter[tuple[UUID | None, str | None, date | None]]:
        return Counter({(row.organization_id, row.event_type, row.date): row.contacts or 0 for row in self.rows})

    def summed(self, by: By, organization: UUID | None) -> list[RollupRow]:
        """Return sums by day, type or channel; distinct contacts cannot be added up."""
        keys: dict[By, Callable[[RollupRow], object]] = {
            By.DAY: lambda row: row.date,
            By.TYPE: lambda row: row.event_type,
            By.CHANNEL: lambda row: row.channel,
        }
        groups: dict[object, list[RollupRow]] = {}
        for row in self.rows:
            groups.setdefault(keys[by](row), []).append(row)
        sums = [_sum(group, by, organization) for group in groups.values()]
        return sums if by is By.DAY else sorted(sums, key=lambda row: -row.events)


def read_rollups(
    session: Session, job: AnyJob, settings: Settings, days: Window, organization: UUID | None = None
) -> Rollups:
    """Read the rollups of whole days, with the runs of `job`, which writes them."""
    first, after = days.start.date(), days.end.date()
    with session.transaction(Limits("mauntic-jobs show", settings.statement_timeout)):
        found = session.rows(_sql["rollups"], {"first": first, "after": after, "organization": organization})
        lineage = Lineage(session, job, settings, days, organization)
    return Rollups(
        days=[first + timedelta(days=number) for number in range((after - first).days)],
        rows=[
            RollupRow(
                organization_id=row["organization_id"],
                date=row["date"],
                channel=channel_of(row["event_type"]),
                event_type=row["event_type"],
                events=row["events"],
                contacts=row["contacts"],
                written=lineage.of(row["date"], row["organization_id"], row["event_type"]),
            )
            for row in found
        ],
    )


def channel_of(event_type: str) -> str:
    """Return the channel that a type of event is about: email, sms, push or other."""
    channel = event_type.partition("_")[0]
    return channel if channel in MESSAGE_CHANNELS else OTHER_CHANNEL


def last_full_day(days: Sequence[date], today: date) -> date:
    """Return the last of the days that is over, or the last of all if none is."""
    return next((day for day in reversed(days) if day < today), days[-1])


def whole_days(window: Window) -> Window:
    """Return the whole UTC days that a window touches."""
    return window.aligned(Unit.DAY)


def _sum(rows: Iterable[RollupRow], by: By, organization: UUID | None) -> RollupRow:
    rows = list(rows)
    first = rows[0]
    return RollupRow(
        organization_id=organization,
        date=first.date if by is By.DAY else None,
        channel=first.channel if by is not By.DAY else None,
        event_type=first.event_type if by is By.TYPE else None,
        events=sum(row.events for row in rows),
        contacts=None,
        written=latest(row.written for row in rows),
    )
