"""Concurrency limiter of a queue, with jobs held ready behind it."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable

# Jobs that take less are over before another could be fetched: the next ones are taken while these are worked on.
_QUICK_SECONDS = 0.1
# Each of the latest jobs counts for an eighth of what is remembered.
_MEMORY = 8


class ConcurrencyLimiter:
    """Lets so many jobs in at once, the others in the order in which they came.

    While jobs are quickly done, half as many again are to be held ready; where they take long, another process may
    have a place for them.
    """

    def __init__(self, places: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._places = self._open = places
        self._inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._given_way = False
        self._seconds = 2 * _QUICK_SECONDS

    @property
    def most(self) -> int:
        """How many jobs are to be held at most, inside and ready."""
        return self._open + (math.ceil(self._places / 2) if self._seconds < _QUICK_SECONDS else 0)

    async def enter(self) -> float:
        """Wait for a place; return when it was had, for `leave`."""
        if self._has_place() and not self._waiting:
            self._inside += 1
            return self._clock()
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():
                self._inside -= 1
                self._admit()
            raise
        return self._clock()

    def leave(self, entered: float) -> None:
        """Give up a place."""
        self._seconds += (self._clock() - entered - self._seconds) / _MEMORY
        self._inside -= 1
        self._admit()

    def widen(self, places: int) -> None:
        """Have so many places more than at first."""
        self._open = self._places + places
        self._admit()

    def give_way(self) -> None:
        """Let everybody in, from now on."""
        self._given_way = True
        self._admit()

    def _has_place(self) -> bool:
        return self._inside < self._open or self._given_way

    def _admit(self) -> None:
        while self._waiting and self._has_place():
            place = self._waiting.popleft()
            if not place.done():  # its task has been cancelled
                self._inside += 1
                place.set_result(None)
