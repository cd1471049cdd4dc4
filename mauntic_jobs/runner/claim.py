"""The claim on a job: who may run it now, how a dead owner is replaced, and how a replaced owner is kept from writing.

A claim is a row of the ledger, not a lock of a session, because a pooler shares sessions between clients.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from mauntic_jobs import __version__
from mauntic_jobs.errors import FencedError, JobPausedError, LockedError, SlotClaimedError
from mauntic_jobs.job import Overlap, Row
from mauntic_jobs.runner.clock_skew import MAX_SKEW, database_time, shared_time, skew_error
from mauntic_jobs.runner.job_pause import read_pause
from mauntic_jobs.runner.request import Request, Status
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits, Session, json

_POLL_SECONDS = 0.5
# A slot whose runs were lost this often has failed: it would take down the next one, too.
MAX_LOSSES = 3

_sql = statements("runs")


@dataclass(frozen=True)
class RunClaim:
    """The right to write as run `id`, for as long as the ledger still shows `fencing_token` on it."""

    id: int
    fencing_token: int

    @property
    def parameters(self) -> dict[str, int]:
        """What the ledger's statements need to find the run."""
        return {"id": self.id, "fencing_token": self.fencing_token}

    @property
    def name(self) -> str:
        """The name that the run's transactions carry in `pg_stat_activity`."""
        return f"mauntic-jobs run {self.id}/{self.fencing_token}"


def acquire(session: Session, request: Request, attempt: int) -> RunClaim:
    """Claim the job for `request`, taking over from dead owners; under `Overlap.WAIT`, wait for live ones.

    Raises JobPausedError for a slot of a job that an operator has paused, LockedError, which names the owner, when
    another run is under way and the request does not wait, SlotClaimedError when the slot or the backfill's window is
    another's, and ClockSkewError when the slot has not struck by the database's clock.
    """
    if request.host_clock is not None:
        shared_time(session, request.host_clock)
    _check_pause(session, request)
    waiting = False
    while True:
        claim = _try(session, request, attempt)
        if claim is not None:
            return claim
        _check_slot(session, request)
        _check_window(session, request)
        if _waited_for_slot(session, request):
            continue
        owner = _owner(session, request)
        if request.overlap is not Overlap.WAIT:
            raise LockedError(f"{request.job.name} is being run by {owner}. Try again later, or add --overlap wait.")
        if not waiting:
            request.log(f"{request.job.name}: waiting for {owner}")
            waiting = True
        time.sleep(_POLL_SECONDS)


def release_dead(session: Session, job: str, takeover_after: timedelta, log: Callable[[str], None]) -> None:
    """Mark the runs of a job whose owner has been silent for so long as lost, and end what they have open."""
    with session.transaction(Limits()):
        dead = session.rows(_sql["release_dead"], _silent(job, takeover_after))
    _terminate(session, job, dead, log)


def live_owner(session: Session, job: str) -> int | None:
    """Return the run that holds the claim on a job, if one does; dead owners have to be released before."""
    owner = next(iter(session.rows(_sql["owner"], {"job": job})), None)
    return None if owner is None else int(owner["id"])


def record_ended(session: Session, request: Request, status: Status, error: str, attempt: int) -> int:
    """Record a run that ended without a claim, and return its id. `error` is already scrubbed."""
    ended = {**_identity(request, attempt), "status": status.value, "error": error}
    return int(session.row(_sql["record_ended"], ended)["id"])


def next_attempt(session: Session, claim: RunClaim, attempt: int, error: str) -> Status:
    """Record a further attempt, and return how the run stands: running, or as a lost commit has left it.

    Raises FencedError if another process has taken the run over.
    """
    if session.execute(_sql["next_attempt"], {**claim.parameters, "attempt": attempt, "error": error}):
        return Status.RUNNING
    return _ended(session, claim)


def succeed(session: Session, claim: RunClaim, counters: Mapping[str, int], problems: str | None) -> None:
    """Record success, in the transaction that writes. Raises FencedError if the run is another's by now.

    `problems` is what was left undone, already scrubbed.
    """
    ended = {**claim.parameters, "counters": json(dict(counters)), "problems": problems}
    if not session.execute(_sql["succeed"], ended):
        _ended(session, claim)
        raise FencedError(f"Run {claim.id} has ended already.")


def fail(session: Session, claim: RunClaim, error: str) -> None:
    """Record failure, unless the run has ended already or is another's. `error` is already scrubbed."""
    session.execute(_sql["fail"], {**claim.parameters, "error": error})


def stop(session: Session, claim: RunClaim, signal: str) -> None:
    """Record that a signal stopped the run, unless it has ended already or is another's; its slot is due again."""
    session.execute(_sql["stop"], {**claim.parameters, "error": signal})


def refuse(session: Session, claim: RunClaim, error: str) -> None:
    """Record a refusal, in the transaction that writes what the job keeps of it. `error` is already scrubbed.

    Raises FencedError if the run is another's by now.
    """
    if not session.execute(_sql["fail"], {**claim.parameters, "error": error}):
        _ended(session, claim)
        raise FencedError(f"Run {claim.id} has ended already.")


def beat(session: Session, claim: RunClaim) -> bool:
    """Show a sign of life; return whether the run is still this process's."""
    return session.execute(_sql["heartbeat"], claim.parameters) == 1


def _try(session: Session, request: Request, attempt: int) -> RunClaim | None:
    job, takeover_after = request.job.name, request.settings.takeover_after
    claimed = {**_identity(request, attempt), "takeover_after": takeover_after}
    with session.transaction(Limits()):
        dead = session.rows(_sql["release_dead"], _silent(job, takeover_after))
        if request.at_most is not None:
            session.rows(_sql["lock_windows"], claimed)
        row = next(iter(session.rows(_sql["claim"], claimed)), None)
    _terminate(session, job, dead, request.log)
    return RunClaim(row["id"], row["fencing_token"]) if row else None


def _silent(job: str, takeover_after: timedelta) -> dict[str, object]:
    return {"job": job, "takeover_after": takeover_after, "losses": MAX_LOSSES}


def _terminate(session: Session, job: str, dead: Sequence[Row], log: Callable[[str], None]) -> None:
    """End what lost runs still have open in the database."""
    for run in dead:
        log(f"{job}: run {run['id']} is lost; process {run['pid']} on {run['host']} fell silent")
        session.rows(_sql["terminate"], {"name": RunClaim(run["id"], run["fencing_token"]).name})


def _identity(request: Request, attempt: int) -> dict[str, object]:
    return {
        "job": request.job.name,
        "slot": request.slot,
        "claims_slot": request.claim_slot,
        "window_start": request.window.start,
        "window_end": request.window.end,
        "options": json(request.options.model_dump(mode="json", exclude_defaults=True)),
        "launcher": request.launcher.value,
        "launcher_id": request.settings.launcher_id or "",
        "host": request.host,
        "pid": request.pid,
        "version": __version__,
        "attempt": attempt,
        "exclusive": request.overlap is not Overlap.ALLOW and request.backfill is None,
        "backfill": request.backfill,
        "at_most": request.at_most,
    }


def _check_pause(session: Session, request: Request) -> None:
    pause = read_pause(session, request.job.name, request.now) if request.claim_slot else None
    if pause is not None:
        raise JobPausedError(f"{request.job.name} is {pause.sentence}. Its slots wait until then.")


def _check_slot(session: Session, request: Request) -> None:
    if not request.claim_slot:
        return
    slot = {"job": request.job.name, "slot": request.slot}
    for run in session.rows(_sql["slot_claim"], slot):
        answer = f"run {run['id']} ({run['status']}, {run['launcher']} on {run['host']})"
        raise SlotClaimedError(f"Slot {request.slot:%Y-%m-%dT%H:%M}Z is answered by {answer}.")


def _check_window(session: Session, request: Request) -> None:
    asked = {"backfill": request.backfill, "window_start": request.window.start}
    for row in session.rows(_sql["window_claim"], asked) if request.backfill is not None else ():
        why = f"is {row['state']}" if row["run"] is None else f"has run {row['run']} for {request.window}"
        raise SlotClaimedError(f"Backfill {request.backfill} {why}.")


def _waited_for_slot(session: Session, request: Request) -> bool:
    """Return whether the slot had not struck yet by the database's clock, after having waited for it."""
    if not request.claim_slot or request.slot is None:
        return False
    there = database_time(session)
    left = request.slot - there
    if left > MAX_SKEW:
        raise skew_error(there, left)
    time.sleep(max(0.0, left.total_seconds()))
    return left > timedelta()


def _owner(session: Session, request: Request) -> str:
    owner = next(iter(session.rows(_sql["owner"], {"job": request.job.name})), None)
    if owner is None:
        return "a run that has just ended" if request.at_most is None else "other windows of the backfill"
    return f"run {owner['id']} (process {owner['pid']} on {owner['host']}, since {owner['started_at']:%H:%M:%S})"


def _ended(session: Session, claim: RunClaim) -> Status:
    status = Status(session.row(_sql["state"], claim.parameters)["status"])
    # Only its own process records that a run has failed.
    if status in (Status.SUCCEEDED, Status.FAILED, Status.STOPPED):
        return status
    raise FencedError(
        f"Run {claim.id} was taken over by another process, because this one had shown no sign of life; "
        "nothing that it wrote was kept."
    )
