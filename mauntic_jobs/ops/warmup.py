"""Warm-up of sending domains as operators see it: what each has sent today, what waits, and when that goes out."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from mauntic_jobs.delivery.ledger.waits import Wait
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import Unit, naive
from mauntic_jobs.warmup.keys import WARMUP
from mauntic_jobs.warmup.quota import daily_limit, day_of

_MAX_DOMAINS, MAX_WAITING = 1000, 100_000
_INSTANT = timedelta.resolution
# As the statement `waiting` reads it.
_WAITS = re.compile(rf"{Wait.WARM_UP}: (.*) has sent its ")

_sql = statements("warmup_domains")


@dataclass(frozen=True)
class WarmingDomain:
    """A sending domain that is being warmed up: messages sent today, by UTC, and how many it may send at present.

    `created` is aware, in UTC.
    """

    organization: UUID
    name: str
    created: datetime
    sent: int
    limit: int


@dataclass(frozen=True)
class PlannedDay:
    """A day of a warm-up, by UTC, the domain's `number`th: its limit at first, and how much of what waits goes out.

    The first day of a plan is today, with its present limit. After the last one there is no limit.
    """

    day: date
    number: int
    limit: int
    goes_out: int


@dataclass(frozen=True)
class WarmupPlan:
    """A domain, how many messages wait for its next day, and its days from today on.

    Of all messages that wait, 100,000 are looked at.
    """

    domain: WarmingDomain
    waiting: int
    days: Sequence[PlannedDay]

    @property
    def ends(self) -> date | None:
        """The day on which the last of what waits now goes out, None where nothing waits.

        It is the first day without a limit if the others do not suffice.
        """
        if not self.waiting:
            return None
        last = max((each.day for each in self.days if each.goes_out), default=self.days[0].day)
        is_over = sum(each.goes_out for each in self.days) >= self.waiting
        return last if is_over else self.days[-1].day + timedelta(days=1)


def waiting_domain(reason: str | None) -> str | None:
    """Return the domain for whose next day a delivery waits, by its reason in the ledger, or None."""
    found = _WAITS.match(reason or "")
    return found[1] if found else None


def warming_domains(
    session: Session, now: datetime, organization: UUID | None = None, name: str | None = None
) -> list[WarmingDomain]:
    """Return the domains that are being warmed up, at most 1,000, those near their limit first."""
    asked = {"created": naive(now - WARMUP), "day": Unit.DAY.floor(now), "most": _MAX_DOMAINS}
    domains = []
    for row in session.rows(_sql["domains"], {**asked, "organization": organization, "domain": name}):
        created = row["created_at"].replace(tzinfo=UTC)
        limit = daily_limit(created, now)
        if limit is not None:
            domains.append(WarmingDomain(row["organization_id"], row["domain"], created, row["sent"], limit))
    return sorted(domains, key=lambda each: each.limit - each.sent)


def warmup_plans(
    session: Session, now: datetime, organization: UUID | None = None, name: str | None = None
) -> list[WarmupPlan]:
    """Return the plans of the domains that are being warmed up, those near their limit first."""
    domains = warming_domains(session, now, organization, name)
    rows = session.rows(_sql["waiting"], {"organization": organization, "domain": name, "most": MAX_WAITING})
    waiting = {(row["organization_id"], row["domain"]): row["deliveries"] for row in rows}
    return [plan_of(each, waiting.get((each.organization, each.name), 0), now) for each in domains]


def plan_of(domain: WarmingDomain, waiting: int, now: datetime) -> WarmupPlan:
    """Return the days of a domain from `now`, aware, to the last one with a limit, and what goes out on each."""
    # What waits has found today's limit used up, and comes again after midnight.
    days = [PlannedDay(now.astimezone(UTC).date(), day_of(domain.created, now), domain.limit, 0)]
    midnight = Unit.DAY.after(Unit.DAY.floor(now))
    # What comes again comes after midnight.
    while (limit := daily_limit(domain.created, midnight + _INSTANT)) is not None:
        goes_out = min(limit, waiting - sum(each.goes_out for each in days))
        days.append(PlannedDay(midnight.date(), day_of(domain.created, midnight + _INSTANT), limit, goes_out))
        midnight = Unit.DAY.after(midnight)
    return WarmupPlan(domain, waiting, days)
