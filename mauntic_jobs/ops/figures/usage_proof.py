"""Proof of an organization's usage of a month: its events day by day, what is recorded, and what a recount says."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from uuid import UUID

from mauntic_jobs.job import Row
from mauntic_jobs.jobs.monthly_usage_summary import MONTHLY_USAGE_SUMMARY, recount_usage
from mauntic_jobs.ops.figures.history import FigureChange, read_changes
from mauntic_jobs.ops.figures.lineage import Lineage, Provenance, RebuildingRun, latest
from mauntic_jobs.ops.figures.usage import MONTHLY
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits, Session
from mauntic_jobs.timekeeping.window import Unit, Window, naive

_sql = statements("figure_proof")
_figures_sql = statements("figures")


@dataclass(frozen=True)
class UsageProof:
    """An event type's usage: as recorded, as counted now, and as the daily rollups add up; None where there is none.

    `first_id` and `last_id` are the first and the last event of the month. `withheld` is why a run would not write what
    was counted: `shrinks`, `too long` or `too large`.
    """

    event_type: str
    events: int | None
    contacts: int | None
    counted_events: int | None
    counted_contacts: int | None
    rollup_events: int
    first_id: UUID | None
    first_at: datetime | None
    last_id: UUID | None
    last_at: datetime | None
    withheld: str | None

    @property
    def agrees(self) -> bool:
        """Whether what is recorded is what was counted."""
        return (self.events, self.contacts) == (self.counted_events, self.counted_contacts)


@dataclass(frozen=True)
class UsageDay:
    """The events of one type on one day, as found and as the daily rollup has them, with the first and the last."""

    date: date
    event_type: str
    events: int
    rollup_events: int
    first_id: UUID | None = None
    first_at: datetime | None = None
    last_id: UUID | None = None
    last_at: datetime | None = None


@dataclass(frozen=True)
class UsageExplanation:
    """The usage of one organization in one month, `over` or not, with its proof and the runs that rebuilt it."""

    organization_id: UUID
    month: Window
    over: bool
    types: Sequence[UsageProof]
    days: Sequence[UsageDay]
    runs: Sequence[RebuildingRun]
    written: Provenance
    changes: Sequence[FigureChange]

    @property
    def agrees(self) -> bool:
        """Whether all that is recorded is what was counted."""
        return all(each.agrees for each in self.types)


def explain_usage(
    session: Session, settings: Settings, organization: UUID, month: Window, now: datetime
) -> UsageExplanation:
    """Return how the usage of a month came about; nothing is written.

    The same events and rows give the same explanation each time.
    """
    limits = Limits("mauntic-jobs explain", settings.statement_timeout, work_mem=settings.work_mem)
    with session.rehearsal(limits):
        groups = recount_usage(session, settings, month, organization)
        found = [_in_utc(row, settings) for row in session.rows(_sql["days"], _range(settings, organization, month))]
        rollups = _rollups(session, organization, month)
    first = month.start.date()
    lineage = Lineage(session, MONTHLY_USAGE_SUMMARY, settings, month, organization)
    return UsageExplanation(
        organization_id=organization,
        month=month,
        over=month.end <= now,
        types=_types(groups, found, rollups),
        days=_days(found, rollups),
        runs=lineage.runs(first, organization),
        written=latest(lineage.of(first, organization, group["kind"]) for group in groups),
        changes=read_changes(session, MONTHLY_USAGE_SUMMARY, month, organization),
    )


def _range(settings: Settings, organization: UUID, month: Window) -> Row:
    days, zone = list(month.split(Unit.DAY)), settings.platform_zone
    return {
        "organization": organization,
        "days": [day.start.date() for day in days],
        "starts": [naive(day.start, zone) for day in days],
        "start": naive(month.start, zone),
        "end": naive(month.end, zone),
    }


def _in_utc(row: Row, settings: Settings) -> Row:
    """Return a row whose times are aware, as the platform's zone has them."""
    zone = settings.platform_zone
    times = {name: row[name].replace(tzinfo=zone).astimezone(UTC) for name in ("first_at", "last_at")}
    return {**row, **times}


def _rollups(session: Session, organization: UUID, month: Window) -> dict[tuple[str, date], int]:
    asked = {"organization": organization, "first": month.start.date(), "after": month.end.date()}
    return {(row["event_type"], row["date"]): row["events"] for row in session.rows(_figures_sql["rollups"], asked)}


def _types(groups: Iterable[Row], found: Sequence[Row], rollups: dict[tuple[str, date], int]) -> list[UsageProof]:
    proofs = []
    for group in groups:
        event_type = group["kind"].removeprefix(MONTHLY)
        # In the order of their days.
        mine = [row for row in found if row["event_type"] == event_type]
        first, last = (mine[0], mine[-1]) if mine else ({}, {})
        proofs.append(
            UsageProof(
                event_type=event_type,
                events=group["old_count"],
                contacts=group["old_unique_count"],
                counted_events=group["new_count"],
                counted_contacts=group["new_unique_count"],
                rollup_events=sum(events for (kind, _), events in rollups.items() if kind == event_type),
                first_id=first.get("first_id"),
                first_at=first.get("first_at"),
                last_id=last.get("last_id"),
                last_at=last.get("last_at"),
                withheld=group["withheld"],
            )
        )
    return sorted(proofs, key=lambda each: (-(each.counted_events or each.events or 0), each.event_type))


def _days(found: Sequence[Row], rollups: dict[tuple[str, date], int]) -> list[UsageDay]:
    days = {(row["event_type"], row["day"]): row for row in found}
    keys = sorted({*days, *rollups}, key=lambda key: (key[1], key[0]))
    ends = ("first_id", "first_at", "last_id", "last_at")
    return [
        UsageDay(
            *(day, event_type),
            events=days[event_type, day]["events"] if (event_type, day) in days else 0,
            rollup_events=rollups.get((event_type, day), 0),
            **{name: days[event_type, day][name] for name in ends if (event_type, day) in days},
        )
        for event_type, day in keys
    ]
