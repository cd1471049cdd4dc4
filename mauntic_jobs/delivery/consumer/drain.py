"""End of a drain: whether a queue is empty, or keeps jobs that nothing will move in time."""

import asyncio
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from mauntic_jobs.stores.bullmq.job import due_of
from mauntic_jobs.stores.redis.async_link import RedisLink
from mauntic_jobs.timekeeping import clock


class Left(NamedTuple):
    """What a queue still holds besides the jobs in hand: how many wait, and what for.

    `due` is when the first delayed job is, in seconds since 1970; `limited` says that the queue's rate limit is on.
    """

    waiting: int
    paused: int
    elsewhere: int
    delayed: int
    due: float
    limited: bool

    @property
    def reasons(self) -> list[str]:
        """A sentence for each reason."""
        until = f"{datetime.fromtimestamp(self.due, UTC):%Y-%m-%dT%H:%M:%S}Z"
        sentences = {
            "for the queue's rate limit" if self.limited else "to be taken": self.waiting,
            "for the queue to be resumed": self.paused,
            "for another consumer, which has them in hand or has died": self.elsewhere,
            f"for their time, the first until {until}": self.delayed,
        }
        return [f"{count} left, waiting {reason}" for reason, count in sentences.items() if count]


class Drain:
    """Watches a queue until nothing is left, or nothing has been settled for `seconds`. `left` is what remained."""

    def __init__(self, base: str, redis: RedisLink, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self.left: Left | None = None
        self._base = base
        self._redis = redis
        self._seconds = seconds
        self._now = now
        self._settled = -1
        self._deadline = math.inf

    async def is_over(self, held: int, settled: int) -> bool:
        """Return whether to stop, with so many jobs in hand, and so many settled for good until now."""
        if settled != self._settled or self._deadline == math.inf:
            self._settled, self._deadline = settled, self._now() + self._seconds
        if held:
            return False
        left = await self._look()
        seconds = self._deadline - self._now()
        # Paused jobs come back when an operator wants it; delayed ones at their time.
        moves = left.waiting or left.elsewhere or (left.delayed and left.due - clock.now().timestamp() < seconds)
        if moves and seconds > 0:
            return False
        self.left = left if left.reasons else None
        return True

    async def _look(self) -> Left:
        def ask(command: str, key: str, *more: str | int) -> asyncio.Future[Any]:
            return self._redis.begin(command, f"{self._base}:{key}", *more)

        waiting, prioritized, active, delayed, aside, paused, limit, first = await asyncio.gather(
            *(ask("LLEN", "wait"), ask("ZCARD", "prioritized"), ask("LLEN", "active"), ask("ZCARD", "delayed")),
            *(ask("LLEN", "paused"), ask("HEXISTS", "meta", "paused"), ask("PTTL", "limiter")),
            ask("ZRANGE", "delayed", 0, 0, "WITHSCORES"),
        )
        ready = waiting + prioritized
        due = due_of(float(first[1])) if first else 0.0
        return Left(0 if paused else ready, aside + (ready if paused else 0), active, delayed, due, limit > 0)
