"""Idle mode of a process: while it has nothing to do, it leaves its database alone, which may sleep then."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from mauntic_jobs.errors import MaunticJobsError

# Every task beside the work has looked once more by then.
IDLE_AFTER_SECONDS = 60.0


class IdleMode:
    """Says whether the database may be asked for anything but the work in hand.

    It begins some time after the latest `stir`, and ends with the next one. Before that, `refresh` reads anew what may
    have changed meanwhile. It returns None if nothing has, else the time of the monotonic clock before which work was
    taken by what was known earlier.
    """

    def __init__(self, refresh: Callable[[], Awaitable[float | None]]) -> None:
        self._refresh = refresh
        self._stirred = time.monotonic()
        self._awake = asyncio.Event()
        self._awake.set()
        # Whether something may have changed since idle mode began. Only a refresh that succeeds ends that.
        self._is_stale = False
        self._refreshing: asyncio.Future[float | None] | None = None

    @property
    def is_on(self) -> bool:
        """Whether idle mode is on: the database is to be left alone."""
        return not self._awake.is_set()

    @property
    def idle_seconds(self) -> float:
        """For how long there has been nothing to do."""
        return time.monotonic() - self._stirred

    def stir(self) -> None:
        """Note that there is something to do, and end the idle mode if it is on."""
        self._stirred = time.monotonic()
        if self._is_stale:
            self._begin_refresh()

    async def until_awake(self) -> None:
        """Return when the database may be asked: at once, or at the end of the idle mode, which may begin here."""
        if self.idle_seconds > IDLE_AFTER_SECONDS:
            self._awake.clear()
            self._is_stale = True
        await self._awake.wait()

    async def is_current(self) -> bool:
        """Return whether work that was just taken may be done; False if it is to be taken again by what is known now.

        Raises MaunticJobsError if the database cannot be asked.
        """
        taken = self._stirred = time.monotonic()
        if not self._is_stale:
            return True
        changed = await asyncio.shield(self._begin_refresh())
        return changed is None or taken > changed

    def _begin_refresh(self) -> asyncio.Future[float | None]:
        if self._refreshing is None:
            self._refreshing = asyncio.ensure_future(self._wake())
            # One that nothing waits for has failed without consequence: the next stir begins another.
            self._refreshing.add_done_callback(lambda done: done.cancelled() or done.exception())
        return self._refreshing

    async def _wake(self) -> float | None:
        try:
            changed = await self._refresh()
            self._is_stale = False
        except MaunticJobsError:
            # The background tasks go on, and report that the database is away.
            self._awake.set()
            raise
        finally:
            self._refreshing = None
        self._awake.set()
        return changed
