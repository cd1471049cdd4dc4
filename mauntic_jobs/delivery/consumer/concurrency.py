"""Concurrency limiter of a queue, with jobs held ready behind it."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from mauntic_jobs.aio.gate import Gate

# Jobs that take less are over before another could be fetched: the next ones are taken while these are worked on.
_QUICK_SECONDS = 0.1
# How many jobs are held at most whose turn has not come.
_MAX_EARLY = 200
# Each of the latest jobs counts for an eighth of what is remembered.
_MEMORY = 8


class ConcurrencyLimiter:
    """Lets so many jobs in at once, the others in the order in which they came.

    While jobs are quickly done, `ahead` more are let in, and half as many as there are places are to be held ready;
    where they take long, another process may have a place for them.
    """

    def __init__(self, places: int, ahead: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._places = self._open = places
        self._ahead = ahead
        self._gate: Gate[None] = Gate(self._has_place, in_order=True)
        self._early = 0
        self._given_way = asyncio.Event()
        self._seconds = 2 * _QUICK_SECONDS

    @property
    def most(self) -> int:
        """How many jobs are to be held at most: inside, ready, and early."""
        ready = math.ceil(self._places / 2) if self._is_quick else 0
        return self._most_inside + ready + min(self._early, _MAX_EARLY)

    @property
    def is_free(self) -> bool:
        """Whether a job that enters now has a place at once."""
        return self._has_place(None) and not self._gate.has_waiting

    @contextmanager
    def early(self) -> Iterator[None]:
        """Hold a job whose turn has not come while the body runs; it takes no place."""
        self._early += 1
        try:
            yield
        finally:
            self._early -= 1

    async def await_turn(self, seconds: float) -> None:
        """Wait for so long, or until everybody is let in."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._given_way.wait()

    async def enter(self) -> float:
        """Wait for a place; return when it was had, for `leave`."""
        await self._gate.enter(None)
        return self._clock()

    def leave(self, entered: float) -> None:
        """Give up a place."""
        # Those ahead wait for the others: what counts is how long a place is taken for each job.
        seconds = (self._clock() - entered) * self._places / max(self._gate.inside, self._places)
        self._seconds += (seconds - self._seconds) / _MEMORY
        self._gate.leave()

    def widen(self, places: int) -> None:
        """Have so many places more than at first."""
        self._open = self._places + places
        self._gate.admit()

    def give_way(self) -> None:
        """Let everybody in, from now on."""
        self._given_way.set()
        self._gate.admit()

    @property
    def _is_quick(self) -> bool:
        return self._seconds < _QUICK_SECONDS

    @property
    def _most_inside(self) -> int:
        return self._open + (self._ahead if self._is_quick else 0)

    def _has_place(self, _: None) -> bool:
        return self._gate.inside < self._most_inside or self._given_way.is_set()
