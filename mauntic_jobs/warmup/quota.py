"""Warm-up limits of sending domains, and the platform's counters of messages sent today."""

import math
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from mauntic_jobs.lua import script
from mauntic_jobs.stores.redis.async_link import RedisLink, Word
from mauntic_jobs.timekeeping.window import Unit
from mauntic_jobs.warmup.keys import dates, is_countable, keys

# The platform's table: a domain's day, and the messages allowed on it.
_TABLE = (
    (1, 50),
    (2, 100),
    (3, 250),
    (4, 500),
    (5, 1_000),
    (7, 2_500),
    (10, 5_000),
    (14, 10_000),
    (21, 25_000),
    (30, 50_000),
)
_DAYS = [day for day, _ in _TABLE]


@dataclass(frozen=True)
class Allowance:
    """How many messages a domain may send from `start` to the end of the UTC day, in all processes and engines."""

    organization: UUID
    domain: str
    most: int
    start: datetime


def allowance_of(organization: UUID, domain: str, created: datetime, now: datetime) -> Allowance | None:
    """Return what a domain may send on the day of `now`, or None for no limit. Both instants are aware.

    What was sent before the domain was created was sent by one of the same name that was removed, and does not count.
    """
    limit = daily_limit(created, now)
    return (
        None if limit is None else Allowance(organization, domain, limit, max(Unit.DAY.floor(now), min(created, now)))
    )


def daily_limit(created: datetime, now: datetime) -> int | None:
    """Return how many messages a domain may send on its day, or None after the 30th. Both instants are aware.

    Between two days of the table it is interpolated and rounded down.
    """
    day = day_of(created, now)
    if day > _DAYS[-1]:
        return None
    place = bisect_right(_DAYS, day) - 1
    first, allowed = _TABLE[place]
    if first == day:
        return allowed
    following, more = _TABLE[place + 1]
    return allowed + (more - allowed) * (day - first) // (following - first)


def day_of(created: datetime, now: datetime) -> int:
    """Return which day of a domain it is, the first being 1; it begins at the time of day at which it was created."""
    return max(1, math.ceil((now.astimezone(UTC) - created.astimezone(UTC)) / timedelta(days=1)))


class Warmup:
    """The platform's counters in Redis of what was sent today. They decide nothing: claims count in Postgres."""

    def __init__(self, redis: RedisLink) -> None:
        self._redis = redis
        self._script = script("warmup_count")

    async def count(self, allowance: Allowance) -> None:
        """Count a message that went out, or may have."""
        arguments: list[Word] = [*dates(Unit.DAY.floor(allowance.start).date()), 1]
        in_cluster = self._redis.in_cluster
        if is_countable(allowance.domain, in_cluster=in_cluster):
            names = keys(allowance.organization, allowance.domain, in_cluster=in_cluster)
            await self._redis.script(self._script, names, arguments)
