"""Messages that are held back: what becomes of one while it or all its providers are paused, fail or are slow."""

import random
from collections.abc import Sequence

from mauntic_jobs.delivery.admission.restrictions import Restrictions
from mauntic_jobs.delivery.job_outcome import Decision, Defer, GiveBack
from mauntic_jobs.delivery.pipeline.order import Order
from mauntic_jobs.delivery.sending.failover import Sending
from mauntic_jobs.delivery.sending.providers.base import AnyProvider
from mauntic_jobs.delivery.sending.providers.pool import Chosen

# Where no lane holds a message back, it is asked for again after so many seconds, up to twice as many.
_ASIDE_SECONDS = 30.0


class HoldingBack:
    """Applies restrictions and the state of providers to messages in hand; most are held back before they are taken."""

    def __init__(self, restrictions: Restrictions, sending: Sending) -> None:
        self._restrictions = restrictions
        self._sending = sending

    async def decide(self, order: Order) -> Decision | None:
        """Return what becomes of a message that is in another's lane or paused, or None for one that is not."""
        if order.admitted is not None and await order.admitted.is_in_wrong_lane():
            return GiveBack()
        pause = self._restrictions.pause_of(order.message, order.channel)
        if pause is None:
            return None
        if order.admitted is not None and pause.campaign is not None:
            await order.admitted.wait_with(pause.campaign)
        return self.later(order, f"paused: {pause.why}")

    async def is_misplaced(self, order: Order, chosen: Chosen) -> bool:
        """Return whether a message is to be given back, for its turn was by other limits than its providers'."""
        if order.admitted is None:
            return False
        is_restricted = self._restrictions.restricted(each.config.id for each in chosen.usable)
        failing = self._sending.failing(order.message.organization_id, chosen.usable)
        return await order.admitted.is_misplaced(chosen, failing, is_restricted=is_restricted)

    def open_providers(self, order: Order, chosen: Chosen) -> Sequence[AnyProvider]:
        """Return the providers that are not paused, from the one on whose turn a message is."""
        candidates = order.admitted.providers(chosen.usable) if order.admitted is not None else chosen.usable
        return [each for each in candidates if not self._restrictions.is_paused(each.config.id)]

    async def until_place(self, order: Order, seconds: float) -> Decision:
        """Return what becomes of a message whose organization has all its places in use."""
        if order.admitted is None:
            return self.later(order, "its organization has as many messages in hand as it may")
        await order.admitted.wait_for_place(seconds)
        return GiveBack()

    async def until_provider_works(self, order: Order, chosen: Chosen) -> Decision | None:
        """Return what becomes of a message whose providers all fail, or None where its lane does not wait for that."""
        failing = self._sending.failing(order.message.organization_id, chosen.usable)
        if order.admitted is None or not await order.admitted.wait_for(failing, chosen):
            return None
        return GiveBack()

    def later(self, order: Order, reason: str) -> Decision:
        """Return what becomes of a message until a pause is over."""
        if order.admitted is not None:
            # Its lane waits until the pause is over.
            return GiveBack()
        return Defer(random.uniform(_ASIDE_SECONDS, 2 * _ASIDE_SECONDS), reason)  # noqa: S311 - to spread
