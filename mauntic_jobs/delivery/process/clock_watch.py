"""Comparison of the host's clock with those of Postgres and Redis, which holds delivery while they are apart."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from mauntic_jobs.aio.idle_mode import IdleMode
from mauntic_jobs.errors import HostClockError, MaunticJobsError
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.async_link import PostgresLink
from mauntic_jobs.stores.redis.async_link import RedisLink
from mauntic_jobs.timekeeping import clock

MAX_SKEW_SECONDS = 60.0
_PAUSE_SECONDS, _PAUSE_WHILE_WRONG_SECONDS = 60.0, 5.0

_sql = statements("deliveries")

# Reads a store's clock, in seconds since 1970.
_Read = Callable[[], Awaitable[float]]


class ClockWatch:
    """Says whether the host's clock can be trusted. `log_outage` hears when it cannot, and when it can again.

    `is_wrong` is what the last comparison has shown; a store that does not answer changes nothing.
    """

    def __init__(
        self, postgres: PostgresLink, redis: RedisLink, log_outage: Callable[[str, Exception | None], None]
    ) -> None:
        self.is_wrong = False
        self._postgres = postgres
        self._redis = redis
        self._log_outage = log_outage

    async def run(self, idle: IdleMode) -> None:
        """Compare once a minute, in idle mode with Redis alone, and more often while the clock is wrong.

        Ends only by being cancelled.
        """
        while True:
            await asyncio.sleep(_PAUSE_WHILE_WRONG_SECONDS if self.is_wrong else _PAUSE_SECONDS)
            await self.look(redis_alone=idle.is_on)
            if self.is_wrong:
                # Both stores say whether it is right again.
                idle.stir()

    async def look(self, *, redis_alone: bool = False) -> None:
        """Compare the clocks now."""
        reads: Mapping[str, _Read] = {"Postgres": self._postgres_time, "Redis": self._redis_time}
        if redis_alone:
            reads = {"Redis": self._redis_time}
        skews: dict[str, float] = {}
        for store, read in reads.items():
            try:
                skews[store] = await _skew(read)
            except MaunticJobsError:  # the consumers report a store that is away
                return
        apart = {store: skew for store, skew in skews.items() if abs(skew) > MAX_SKEW_SECONDS}
        self.is_wrong = bool(apart)
        self._log_outage("clock", HostClockError(_sentence(apart)) if apart else None)

    async def _postgres_time(self) -> float:
        (row,) = await self._postgres.rows(_sql["clock"], {})
        return float(row["seconds"])

    async def _redis_time(self) -> float:
        seconds, microseconds = await self._redis.command("TIME")
        return int(seconds) + int(microseconds) / 1_000_000


async def _skew(read: _Read) -> float:
    """Return for how many seconds the host is ahead of a store at least, negative if it is behind."""
    before = clock.now().timestamp()
    there = await read()
    after = clock.now().timestamp()
    # The store read its clock in between, however long the answer took.
    return max(before - there, 0.0) or min(after - there, 0.0)


def _sentence(apart: Mapping[str, float]) -> str:
    parts = [f"{abs(skew):,.0f} s {'ahead of' if skew > 0 else 'behind'} {store}" for store, skew in apart.items()]
    return (
        f"The clock of this host is {' and '.join(parts)} (limit {MAX_SKEW_SECONDS:.0f} s). No message is taken, "
        "because by a wrong clock messages expire, or go out at wrong times. "
        "Set the clocks by NTP; delivery goes on then."
    )
