"""A month of believable activity in analytics.contact_activity, the same for the same end."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from uuid import UUID

from mauntic_jobs.demo.activity import simulate
from mauntic_jobs.demo.organizations import PROFILES, Profile, organizations, random_uuid
from mauntic_jobs.demo.timeline import Timeline
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits, Session
from mauntic_jobs.timekeeping.window import Unit, naive

DAYS = 30

_LOAD_TIMEOUT = timedelta(minutes=10)

_sql = statements("demo")


@dataclass(frozen=True)
class OrganizationSummary:
    """An organization of the sample: its name, which is for display only, and how many events it has."""

    id: UUID
    name: str
    events: int


@dataclass(frozen=True)
class SampleSummary:
    """What was loaded, the largest organization first; `start` is the first midnight, `end` is exclusive."""

    organizations: tuple[OrganizationSummary, ...]
    start: datetime
    end: datetime

    @property
    def events(self) -> int:
        """All events."""
        return sum(organization.events for organization in self.organizations)


def is_empty(session: Session) -> bool:
    """Tell whether there is no activity in the database."""
    return bool(session.row(_sql["is_empty"])["empty"])


def load_sample(
    session: Session,
    now: datetime,
    *,
    days: int = DAYS,
    profiles: Sequence[Profile] = PROFILES,
    on_day: Callable[[], None] = lambda: None,
) -> SampleSummary:
    """Load that many full days, and today up to `now`, in one transaction; `on_day` is called after each day."""
    start = Unit.DAY.floor(now) - timedelta(days=days)
    chosen = organizations(profiles)
    totals = [0] * len(chosen)

    def lines() -> Iterator[str]:
        for text, added in simulate(chosen, Timeline(start, now), start.weekday()):
            totals[:] = (total + more for total, more in zip(totals, added, strict=True))
            yield text
            on_day()

    with session.transaction(Limits(statement_timeout=_LOAD_TIMEOUT, idle_timeout=_LOAD_TIMEOUT)):
        session.copy_in(_sql["copy"], lines())
    session.execute_alone(_sql["settle"])
    counted = [OrganizationSummary(each.id, each.name, total) for each, total in zip(chosen, totals, strict=True)]
    return SampleSummary(tuple(sorted(counted, key=lambda each: -each.events)), start, now)


def late_events(session: Session, now: datetime, *, profiles: Sequence[Profile] = PROFILES) -> int:
    """Add a handful of events of yesterday, as phones that were offline report them, and return how many."""
    largest, *_, smallest = organizations(profiles)
    random = Random("1/late")  # noqa: S311 - it has to be repeatable
    evening = naive(Unit.DAY.floor(now)) - timedelta(hours=3)
    first, second, third = largest.latecomers
    late = [
        (largest.id, first, "email_opened"),
        (largest.id, first, "email_opened"),
        (largest.id, second, "email_opened"),
        (largest.id, second, "email_clicked"),
        (largest.id, third, "sms_unsubscribed"),
        (smallest.id, smallest.latecomers[0], "page_viewed"),
    ]
    rows = [
        (evening + timedelta(minutes=7 * number), random_uuid(random), contact, organization, event_type, None, None)
        for number, (organization, contact, event_type) in enumerate(late)
    ]
    with session.transaction(Limits()):
        session.copy(_sql["copy"], rows)
    return len(rows)
