"""Places at the providers of a channel: how many of its messages are there at once, until they are recorded."""

import asyncio
from uuid import UUID

from mauntic_jobs.aio.gate import Gate
from mauntic_jobs.delivery.pipeline.fair_share import FairShare

# While all places are taken, the number of additional ones is asked for once in so long.
_LOOK_SECONDS = 0.25


class ExchangePlaces:
    """Has a place for each message that may be sent at once, and more while organizations are in trouble.

    `fairness` says how many more; these are for the other organizations.
    """

    def __init__(self, fairness: FairShare) -> None:
        self._fairness = fairness
        self._gate: Gate[UUID] = Gate(self._has_place)
        self._aside = 0
        self._timer: asyncio.TimerHandle | None = None

    async def enter(self, organization: UUID) -> None:
        """Wait for a place for an organization's message, which is to be given up by `leave`."""
        if self._timer is None and self._is_full:
            self._look()
        await self._gate.enter(organization)

    def leave(self) -> None:
        """Give up a place."""
        self._gate.leave()

    @property
    def _is_full(self) -> bool:
        return self._gate.inside >= self._fairness.concurrency

    def _look(self) -> None:
        self._aside = self._fairness.aside()
        self._gate.admit()
        self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look) if self._is_full else None

    def _has_place(self, organization: UUID) -> bool:
        beyond = self._gate.inside - self._fairness.concurrency
        return beyond < 0 or (beyond < self._aside and not self._fairness.is_in_trouble(organization))
