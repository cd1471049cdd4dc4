"""State of a delivery after an exchange with its providers."""

import random
import time
from typing import NamedTuple

from mauntic_jobs.delivery.ledger.records import Claimed, State
from mauntic_jobs.delivery.ledger.waits import Wait
from mauntic_jobs.delivery.pipeline.deferral import wait_of
from mauntic_jobs.delivery.sending.failover import Sent
from mauntic_jobs.delivery.sending.outcome import Verdict
from mauntic_jobs.stores.bullmq.job import ReceivedJob

# Longer than this after it was asked for, a claim may be seen as dead by others.
_FRESH_SECONDS = 30.0
_FINAL = {Verdict.ACCEPTED: State.SENT, Verdict.PERMANENT: State.FAILED, Verdict.UNKNOWN: State.AMBIGUOUS}


class Withheld(NamedTuple):
    """State and reason of a delivery that was claimed and must not be sent, for the ledger."""

    state: State
    reason: str


class Conclusion(NamedTuple):
    """What the ledger records of an exchange; `wait` is in seconds, None for no wait."""

    state: State
    reason: str
    wait: float | None = None


def conclude(sent: Sent, job: ReceivedJob, deferrals: int, *, stopping: bool, is_admitted: bool) -> Conclusion:
    """Return what becomes of a delivery that was deferred `deferrals` times before.

    A process that is stopping gives back what it has not sent, unless the receiver asks to wait. What was refused for
    a provider's rate may be claimed again at once where admission says when (`is_admitted`).
    """
    outcome, reason = sent.outcome, sent.outcome.reason
    match outcome.verdict:
        case Verdict.DEFERRED:
            return Conclusion(State.DEFERRED, f"{Wait.RECEIVER}: {reason}", wait_of(deferrals, outcome.retry_after))
        case Verdict.RATE_LIMITED if is_admitted:
            return Conclusion(State.DEFERRED, reason, 0.0)
        case Verdict.PROVIDER | Verdict.RATE_LIMITED if not stopping:
            return Conclusion(State.DEFERRED, reason, jittered(sent.wait))
        case Verdict.TEMPORARY if job.last_attempt and not stopping:
            return Conclusion(State.FAILED, f"given up after {job.attempts} attempts: {reason}")
        case verdict:
            return Conclusion(_FINAL.get(verdict, State.CLAIMED), reason)


def obstacle(claimed: Claimed, asked: float, *, is_stopping: bool) -> Withheld | None:
    """Return what forbids to send what was claimed, or None.

    `asked` is when the claim was asked for, by the monotonic clock.
    """
    if claimed.refusal:
        return Withheld(State.SUPPRESSED, claimed.refusal)
    if is_stopping:
        return Withheld(State.CLAIMED, "its process was stopped before it was sent")
    if time.monotonic() - asked > _FRESH_SECONDS:
        # It is unknown how long this process was stopped: others may have taken it over.
        return Withheld(State.CLAIMED, "it was not sent soon enough after it was claimed")
    return None


def jittered(seconds: float) -> float:
    """Return a wait, up to a fifth longer, so that messages that wait for the same are not all due at once."""
    return seconds * random.uniform(1.0, 1.2)  # noqa: S311 - to spread
