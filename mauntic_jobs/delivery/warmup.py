"""The warm-up of sending domains: how many messages a day takes, and taking them one by one."""

import math
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from mauntic_jobs.jobs.warmup_daily_reset import dates, keys
from mauntic_jobs.lua import script
from mauntic_jobs.stores.redis_link import RedisLink, Word
from mauntic_jobs.window import Unit

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
class Taken:
    """One message counted for a domain on a UTC day."""

    organization: UUID
    domain: str
    day: datetime


def daily_limit(created: datetime, now: datetime) -> int | None:
    """Return how many messages a domain may send on its day, or None after the 30th. Both instants are aware.

    Between two days of the table it is interpolated and rounded down.
    """
    day = max(1, math.ceil((now.astimezone(UTC) - created.astimezone(UTC)) / timedelta(days=1)))
    if day > _DAYS[-1]:
        return None
    place = bisect_right(_DAYS, day) - 1
    first, allowed = _TABLE[place]
    if first == day:
        return allowed
    following, more = _TABLE[place + 1]
    return allowed + (more - allowed) * (day - first) // (following - first)


class Warmup:
    """Counts messages in Redis, exactly, whichever process sends them."""

    def __init__(self, redis: RedisLink) -> None:
        self._redis = redis

    async def take(self, organization: UUID, domain: str, limit: int, now: datetime) -> Taken | None:
        """Count one message, or return None where the day's limit is reached."""
        taken = Taken(organization, domain, Unit.DAY.floor(now))
        return taken if await self._count(taken, 1, limit) >= 0 else None

    async def give_back(self, taken: Taken) -> None:
        """Take a message back that was definitely not sent."""
        await self._count(taken, -1)

    async def _count(self, taken: Taken, messages: int, *limit: int) -> int:
        arguments: list[Word] = [*dates(taken.day.date()), messages, *limit]
        counted: int = await self._redis.script(
            script("warmup_count"), keys(taken.organization, taken.domain), arguments
        )
        return counted
