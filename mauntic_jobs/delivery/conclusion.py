"""State of a delivery after an exchange with its providers."""

import random
from typing import NamedTuple

from mauntic_jobs.delivery.deferral import REASON, wait_of
from mauntic_jobs.delivery.ledger_entries import State
from mauntic_jobs.delivery.outcome import Verdict
from mauntic_jobs.delivery.sending import Sent
from mauntic_jobs.stores.bullmq_job import ReceivedJob

_FINAL = {Verdict.ACCEPTED: State.SENT, Verdict.PERMANENT: State.FAILED, Verdict.UNKNOWN: State.AMBIGUOUS}


class Conclusion(NamedTuple):
    """What the ledger records of an exchange; `wait` is in seconds, None for no wait."""

    state: State
    reason: str
    wait: float | None = None


def conclude(sent: Sent, job: ReceivedJob, deferrals: int, *, stopping: bool) -> Conclusion:
    """Return what becomes of a delivery that was deferred `deferrals` times before.

    A process that is stopping gives back what it has not sent, unless the receiver asks to wait.
    """
    outcome, reason = sent.outcome, sent.outcome.reason
    match outcome.verdict:
        case Verdict.DEFERRED:
            return Conclusion(State.DEFERRED, f"{REASON}: {reason}", wait_of(deferrals, outcome.retry_after))
        case Verdict.PROVIDER | Verdict.RATE_LIMITED if not stopping:
            return Conclusion(State.DEFERRED, reason, jittered(sent.wait))
        case Verdict.TEMPORARY if job.last_attempt and not stopping:
            return Conclusion(State.FAILED, f"given up after {job.attempts} attempts: {reason}")
        case verdict:
            return Conclusion(_FINAL.get(verdict, State.CLAIMED), reason)


def jittered(seconds: float) -> float:
    """Return a wait, up to a fifth longer, so that messages that wait for the same are not all due at once."""
    return seconds * random.uniform(1.0, 1.2)  # noqa: S311 - to spread
