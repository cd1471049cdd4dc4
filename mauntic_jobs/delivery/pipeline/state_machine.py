"""Outcomes of jobs by the state of their delivery in the ledger."""

from mauntic_jobs.delivery.job_outcome import Decision, Defer, Done, Fail, GiveBack, Retry
from mauntic_jobs.delivery.ledger.records import Claimed, Recorded, State

_SHORTEST_DEFERRAL_SECONDS = 0.5
_BUSY_SECONDS = 2.0


def of_recorded(recorded: Recorded, reason: str, mark: tuple[str, str] | None, *, stopping: bool) -> Decision:
    """Return what becomes of the job after a result; `mark` is the key and the value that say that it was sent."""
    wait = max(recorded.wait or 0.0, _SHORTEST_DEFERRAL_SECONDS)
    match recorded.state:
        case State.SENT:
            return Done(State.SENT, mark)
        case State.SUPPRESSED | State.EXPIRED:
            return Done(recorded.state, reason=reason if recorded.state is State.EXPIRED else "")
        case State.FAILED:
            return Fail(reason)
        case State.AMBIGUOUS if recorded.held:
            return Fail(_held(reason))
        case State.CLAIMED if recorded.fresh:
            return GiveBack() if stopping else Retry(reason)
        case _:
            return Defer(wait, reason)


def of_standing(claimed: Claimed, mark: tuple[str, str]) -> Decision:
    """Return what becomes of the job for a delivery that it cannot have."""
    reason = claimed.reason or ""
    wait = max(claimed.wait or 0.0, _SHORTEST_DEFERRAL_SECONDS)
    match claimed.state:
        case State.SENT | State.SUPPRESSED | State.EXPIRED:
            return Done(claimed.state, mark if claimed.state is State.SENT else None)
        case State.FAILED:
            return Fail(f"it has failed before: {reason}")
        case State.AMBIGUOUS if claimed.held:
            return Fail(_held(reason))
        case State.SENDING:
            # By another job, which is done with it in a moment, or by a process that has died.
            return Defer(min(wait, _BUSY_SECONDS), "it is being sent")
        case _:
            return Defer(wait, reason)


def _held(reason: str) -> str:
    return f"it is unknown whether it was sent: {reason}; decide with `mauntic-jobs deliveries resolve`"
