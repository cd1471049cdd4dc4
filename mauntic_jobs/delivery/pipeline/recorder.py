"""Recorder of outcomes: what became of a message goes to the ledger, and comes back as what becomes of its job."""

from asyncio import Future

from mauntic_jobs.delivery import failpoints
from mauntic_jobs.delivery.job_outcome import Decision, Defer, Done, GiveBack
from mauntic_jobs.delivery.ledger.ledger import Ledger
from mauntic_jobs.delivery.ledger.records import Claim, Claimed, Result, State
from mauntic_jobs.delivery.pipeline.conclusion import conclude
from mauntic_jobs.delivery.pipeline.order import Order
from mauntic_jobs.delivery.pipeline.state_machine import of_recorded, of_standing
from mauntic_jobs.delivery.sending.failover import Sent
from mauntic_jobs.delivery.sending.outcome import Verdict

_OPEN = (State.CLAIMED, State.DEFERRED, State.AMBIGUOUS)


class OutcomeRecorder:
    """Records outcomes. `is_stopping`: what was not sent is for the next process."""

    def __init__(self, ledger: Ledger) -> None:
        self.is_stopping = False
        self._ledger = ledger

    async def conclude(self, order: Order, claimed: Claimed, sent: Sent, marked: Future[object] | None) -> Decision:
        """Record the outcome of an exchange; return what becomes of the job.

        `marked` is Redis' answer to the mark of a message that was sent.
        """
        deferrals = await self._ledger.deferrals(order.message) if sent.outcome.verdict is Verdict.DEFERRED else 0
        admitted = order.admitted is not None
        concluded = conclude(sent, order.job, deferrals, stopping=self.is_stopping, is_admitted=admitted)
        decision = await self.record(
            order, claimed.fence, concluded.state, concluded.reason, wait=concluded.wait, sent=sent
        )
        if admitted and sent.outcome.verdict is Verdict.RATE_LIMITED and isinstance(decision, Defer):
            # Its lane says when it is its turn again.
            return GiveBack()
        return _without_mark(decision, marked)

    async def close(
        self,
        order: Order,
        state: State,
        reason: str,
        *,
        wait: float | None = None,
        elsewhere: bool = False,
        hold: bool = False,
    ) -> Decision:
        """Claim a delivery and record its state, where nothing is sent; return what becomes of the job."""
        claimed = await self._ledger.claim(Claim(order.message, order.channel, order.job.id))
        if not claimed.granted:
            return await self.standing(order, claimed)
        return await self.record(order, claimed.fence, state, reason, wait=wait, elsewhere=elsewhere, hold=hold)

    async def record(
        self,
        order: Order,
        fence: int,
        state: State,
        reason: str,
        *,
        wait: float | None = None,
        sent: Sent | None = None,
        elsewhere: bool = False,
        hold: bool = False,
    ) -> Decision:
        """Record the state of a claimed delivery and why; return what becomes of the job.

        `wait` is in seconds; `elsewhere`, `hold` and what is read off `sent` are those of a `Result`.
        """
        result = Result(
            *(order.message, fence, state, reason or None, wait),
            provider_id=sent.provider.config.id if sent and sent.provider else None,
            provider=sent.provider.config.name if sent and sent.provider else None,
            provider_message_id=sent.outcome.provider_message_id if sent else None,
            attempts=sent.attempts if sent else [],
            reject=sent.outcome.reject if sent else None,
            elsewhere=elsewhere,
            tried_elsewhere=order.tried_elsewhere,
            hold=hold,
            payload=order.payload,
        )
        failpoints.reach("before-record")
        recorded = await self._ledger.record(result)
        failpoints.reach("after-record")
        # What the Node engine wrote may be about another organization's message of the same id.
        return of_recorded(recorded, reason, None if elsewhere else order.mark, stopping=self.is_stopping)

    async def standing(self, order: Order, claimed: Claimed) -> Decision:
        """Return what becomes of a job for a delivery that is not to be had."""
        if claimed.state in _OPEN and not claimed.has_payload:
            await self._ledger.keep_payload(order.message, order.payload)
        if claimed.state is State.SENDING and (claimed.wait or 0.0) <= 0:
            await self._ledger.sweep_again(order.message)
        if claimed.state in _OPEN and not claimed.held and (claimed.wait or 0.0) <= 0:
            # Something is known of it since.
            await self._ledger.weigh_evidence()
        return of_standing(claimed, order.mark)


def _without_mark(decision: Decision, marked: Future[object] | None) -> Decision:
    """Return the decision without a mark that Redis has confirmed: only another one is written with the job's end."""
    is_confirmed = marked is not None and marked.done() and not marked.cancelled() and marked.exception() is None
    return Done(decision.value, reason=decision.reason) if isinstance(decision, Done) and is_confirmed else decision
