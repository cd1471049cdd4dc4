"""Pauses between attempts to reach a store that is away."""

import asyncio
import random

# Short, because all sending rests meanwhile: it goes on within a second of the store's return.
_MIN_SECONDS, _MAX_SECONDS = 0.2, 1.0


class Backoff:
    """Pauses that double from 0.2 s to a second or more, each shortened at random."""

    def __init__(self, max_seconds: float = _MAX_SECONDS) -> None:
        self._seconds = _MIN_SECONDS
        self._max_seconds = max_seconds

    def next(self) -> float:
        """Return the seconds of the next pause."""
        seconds, self._seconds = self._seconds, min(self._seconds * 2, self._max_seconds)
        return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - to keep processes apart

    async def pause(self) -> None:
        """Wait for the next pause."""
        await asyncio.sleep(self.next())

    def reset(self) -> None:
        """Begin with the shortest pause again."""
        self._seconds = _MIN_SECONDS
