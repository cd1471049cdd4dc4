"""Waiting for jobs: many slots rest, and one connection listens for all of them."""

import asyncio
from collections.abc import Callable

from mauntic_jobs import clock
from mauntic_jobs.delivery.backoff import Backoff
from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.stores.redis_link import RedisLink

# How long a ring may go unheard that another process heard, and then died.
_LONGEST_WAIT_SECONDS = 5.0
_SHORTEST_WAIT_SECONDS = 0.001


class Doorbell:
    """BullMQ's marker of a queue, and those who wait for it. `next_due` is when the next delayed job is due, or 0."""

    def __init__(self, marker: str, redis: RedisLink, tell: Callable[[str, Exception | None], None]) -> None:
        self.next_due = 0.0
        self.rings = 0
        self._marker = marker
        self._redis = redis
        self._tell = tell
        self._resting: list[asyncio.Future[None]] = []
        self._wanted = asyncio.Event()

    def ring(self, slots: int) -> None:
        """Wake so many slots, or the next that would rest."""
        self.rings += 1
        while slots and self._resting:
            future = self._resting.pop()
            if not future.done():
                future.set_result(None)
                slots -= 1

    async def rest(self, rings: int) -> None:
        """Return when it has rung more often than `rings` times."""
        if self.rings != rings:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._resting.append(future)
        self._wanted.set()
        await future

    async def listen(self) -> None:
        """Ring whenever a job may be there, as long as somebody rests; never returns."""
        backoff = Backoff()
        while True:
            if not self._resting:
                self._wanted.clear()
                await self._wanted.wait()
            until_due = self.next_due - clock.now().timestamp() if self.next_due else _LONGEST_WAIT_SECONDS
            seconds = min(max(until_due, _SHORTEST_WAIT_SECONDS), _LONGEST_WAIT_SECONDS)
            try:
                marked = await self._redis.command("BZPOPMIN", self._marker, f"{seconds:.3f}", patience=seconds)
            except MaunticJobsError as error:
                self._tell("redis", error)
                await backoff.pause()
                continue
            backoff.reset()
            self._tell("redis", None)
            due = float(marked[2]) / 1000 if marked else 0.0
            if due > clock.now().timestamp():
                self.next_due = due
            else:
                self.next_due = 0.0
                self.ring(1)
