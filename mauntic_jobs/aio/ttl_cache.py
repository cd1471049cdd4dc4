"""Values that are looked up once for many, and again when they are old."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

_KeyT = TypeVar("_KeyT", bound=Hashable)
_ValueT = TypeVar("_ValueT")

_MAX_ENTRIES = 10_000


class Cache(Generic[_KeyT, _ValueT]):
    """Keeps what `load` returned for `seconds`; tasks that want the same value at once share one load.

    An error is not kept: the next caller tries again.
    """

    def __init__(self, load: Callable[[_KeyT], Awaitable[_ValueT]], seconds: float) -> None:
        self._load = load
        self._seconds = seconds
        self._values: dict[_KeyT, tuple[float, asyncio.Future[_ValueT]]] = {}

    async def get(self, key: _KeyT) -> _ValueT:
        """Return the value of `key`, or raise what its load raised."""
        now = time.monotonic()
        kept = self._values.get(key)
        if kept is not None and now < kept[0]:
            # The load may be another task's, whose cancellation is not this one's.
            return kept[1].result() if kept[1].done() else await asyncio.shield(kept[1])
        return await self._loaded(key, now)

    async def refreshed(self, key: _KeyT, seconds: float) -> _ValueT:
        """Return the value of `key`, loaded anew if it is older than `seconds`."""
        now = time.monotonic()
        kept = self._values.get(key)
        if kept is not None and now < kept[0] - self._seconds + seconds:
            return await asyncio.shield(kept[1])
        return await self._loaded(key, now)

    async def _loaded(self, key: _KeyT, now: float) -> _ValueT:
        if len(self._values) >= _MAX_ENTRIES:
            self._values.clear()
        task = asyncio.ensure_future(self._load(key))
        self._values[key] = (now + self._seconds, task)
        task.add_done_callback(lambda done: self._forget_failure(key, done))
        return await asyncio.shield(task)

    def _forget_failure(self, key: _KeyT, done: asyncio.Future[_ValueT]) -> None:
        if (done.cancelled() or done.exception() is not None) and self._values.get(key, (0, None))[1] is done:
            del self._values[key]
