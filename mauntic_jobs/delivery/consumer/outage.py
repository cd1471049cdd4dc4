"""Outage of a store, as the slots of a consumer see it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from mauntic_jobs.aio.backoff import Backoff
from mauntic_jobs.errors import MaunticJobsError


class Outage:
    """Lets one slot at a time try whether the stores work again, while the others wait and take no job."""

    def __init__(self, log_outage: Callable[[str, Exception | None], None]) -> None:
        self._log_outage = log_outage
        self._over = asyncio.Event()
        self._over.set()
        self._turn = asyncio.Lock()
        self._backoff = Backoff()

    @property
    def is_on(self) -> bool:
        """Whether a store is away, as far as is known."""
        return not self._over.is_set()

    def note(self, error: MaunticJobsError | None) -> None:
        """Note an error of a store, or that the stores have answered."""
        if error is not None:
            self._log_outage("stores", error)
            self._over.clear()
        elif not self._over.is_set():
            self._log_outage("stores", None)
            self.end()

    def end(self) -> None:
        """Let every slot go on."""
        self._over.set()
        self._backoff.reset()

    async def wait(self) -> None:
        """Return when the stores work, or when it is the caller's turn to try."""
        if self._over.is_set():
            return
        async with self._turn:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._backoff.next()):
                    await self._over.wait()
