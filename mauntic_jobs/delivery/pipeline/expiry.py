"""Expiry: messages that are too old to be sent when their turn comes."""

from datetime import datetime, timedelta

from mauntic_jobs.delivery.admission.restrictions import Restrictions
from mauntic_jobs.delivery.job_outcome import Decision
from mauntic_jobs.delivery.ledger.ledger import Ledger
from mauntic_jobs.delivery.ledger.records import Claim, State
from mauntic_jobs.delivery.ledger.waits import Wait, wait_in
from mauntic_jobs.delivery.pipeline.order import Order
from mauntic_jobs.delivery.pipeline.recorder import OutcomeRecorder
from mauntic_jobs.timekeeping.window import format_duration

_HOUR = timedelta(hours=1)


class Expiry:
    """Gives up what is older than `max_age`. The time of pauses does not count."""

    def __init__(
        self, ledger: Ledger, recorder: OutcomeRecorder, restrictions: Restrictions, max_age: timedelta
    ) -> None:
        self._ledger = ledger
        self._recorder = recorder
        self._restrictions = restrictions
        self._max_age = max_age

    async def age_of_old(self, order: Order, now: datetime) -> timedelta | None:
        """Return the age of a message that is too old, without its pauses, or None. Raises MaunticJobsError."""
        since = order.job.retried or order.job.due
        if now - since <= self._max_age:
            return None
        age = now - since - await self._restrictions.paused_time(order.message, order.channel, since, now)
        return age if age > self._max_age else None

    async def decide(self, order: Order, age: timedelta) -> Decision | None:
        """Give up a message of an age, unless it was tried in time, or only waited as it was to.

        A receiver that asks to wait is not waited for any longer.
        """
        claimed = await self._ledger.claim(Claim(order.message, order.channel, order.job.id))
        if not claimed.granted:
            return await self._recorder.standing(order, claimed)
        hours, most = age // _HOUR, format_duration(self._max_age)
        reason = f"it was {hours:,} h old when its turn came (limit {most})"
        wait = wait_in(claimed.reason)
        if wait is Wait.RECEIVER:
            return await self._recorder.record(order, claimed.fence, State.EXPIRED, f"{reason}; {claimed.reason}")
        if order.job.attempts_made or wait is not None:
            return None
        return await self._recorder.record(order, claimed.fence, State.EXPIRED, reason)
