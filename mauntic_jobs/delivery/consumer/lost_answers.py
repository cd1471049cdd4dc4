"""Orphaned jobs: Redis gave them to a slot of this process, and its answer was lost.

Their locks would keep them from every process for 30 s. The slot asks again with the same token, which brings the next
job and not the one before.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from mauntic_jobs.delivery.consumer.queue_calls import QueueCalls
from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.stores.bullmq import commands as scripts
from mauntic_jobs.stores.redis.async_link import RedisLink

_LOOK_SECONDS = 0.25


class LostAnswers:
    """Gives orphaned jobs back to their queue. `base` is the queue's prefix and name."""

    def __init__(self, base: str, redis: RedisLink, calls: QueueCalls) -> None:
        self._base = base
        self._redis = redis
        self._calls = calls
        # Tokens of slots that lost an answer, and of those that have no call under way and no job.
        self._doubtful: set[str] = set()
        self._resting: set[str] = set()

    async def watch(self, token: str, call: Awaitable[object]) -> object:
        """Await a call that may give a job to the slot of this token; return its answer, or raise its error."""
        try:
            return await call
        except MaunticJobsError:
            self._doubtful.add(token)
            raise

    @contextmanager
    def resting(self, token: str) -> Iterator[None]:
        """Note that the slot of this token has no call under way and holds no job, for as long as the body runs."""
        self._resting.add(token)
        try:
            yield
        finally:
            self._resting.discard(token)

    async def run(self, held: Callable[[], Mapping[str, str]]) -> None:
        """Look for orphans of slots that rest, until cancelled; `held` are the jobs at hand, with their tokens."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if tokens := self._doubtful & self._resting:
                # A Redis that is away again is asked the next time.
                with suppress(MaunticJobsError):
                    await self._give_back(tokens, held)
                    self._doubtful -= tokens

    async def _give_back(self, tokens: set[str], held: Callable[[], Mapping[str, str]]) -> None:
        active = [
            job.decode(errors="surrogateescape")
            for job in await self._redis.command("LRANGE", f"{self._base}:active", 0, -1)
        ]
        if not active:
            return
        locks = await self._redis.command("MGET", *(f"{self._base}:{job}:lock" for job in active))
        owners = {job: lock.decode() for job, lock in zip(active, locks, strict=True) if lock is not None}
        for job, token in owners.items():
            if token in tokens and job not in held():
                await self._calls.end_stalls(job)
                await self._calls.run(scripts.give_back(self._base, token, job))
