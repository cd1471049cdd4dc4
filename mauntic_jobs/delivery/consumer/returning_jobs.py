"""Jobs that were put aside for a slow provider, and that need not wait any more."""

import asyncio
from collections.abc import Callable, Sequence

from mauntic_jobs.delivery.consumer.queue_calls import QueueCalls, now_milliseconds


class ReturningJobs:
    """Brings such jobs back to their queue; `returning` is that of `Work`."""

    def __init__(self, returning: Callable[[int], Sequence[tuple[str, int]]], calls: QueueCalls) -> None:
        self._find = returning
        self._calls = calls
        self._found: list[tuple[str, int]] = []
        self._are_there = asyncio.Event()

    def look(self) -> None:
        """Look for jobs whose organization has a place for them; `run` brings them back."""
        if jobs := self._find(now_milliseconds()):
            self._found += jobs
            self._are_there.set()

    async def run(self) -> None:
        """Bring jobs back as soon as they are found, until cancelled."""
        while True:
            await self._are_there.wait()
            self._are_there.clear()
            jobs, self._found = self._found, []
            await self._calls.promote(jobs)
