"""Records of runs that did not succeed."""

from typing import NamedTuple

from mauntic_jobs.errors import FencedError, JobFailedError, LockedError, MaunticJobsError, SlotClaimedError
from mauntic_jobs.installation import Installation
from mauntic_jobs.job import Overlap
from mauntic_jobs.redaction.text import scrub
from mauntic_jobs.runner.claim import RunClaim, fail, record_ended, stop
from mauntic_jobs.runner.request import Request, Status


class Failure(NamedTuple):
    """How a run that did not succeed is reported; `run_id` is that of its row, if the ledger could take one."""

    status: Status
    error: MaunticJobsError
    run_id: int | None


def record_failure(
    installation: Installation, request: Request, claim: RunClaim | None, error: MaunticJobsError, attempt: int
) -> Failure:
    """Write how the run failed to the ledger, and return how it is reported.

    A run that was taken over, or whose slot is another's, leaves no trace; one that met another run is skipped or
    fails, by its policy for overlaps.
    """
    run_id = claim.id if claim else None
    if isinstance(error, FencedError):
        return Failure(Status.LOST, error, run_id)
    if isinstance(error, SlotClaimedError):
        return Failure(Status.SKIPPED, error, run_id)
    status = Status.FAILED
    if isinstance(error, LockedError):
        if request.overlap is Overlap.SKIP:
            status = Status.SKIPPED
        else:
            error = JobFailedError(str(error))
    try:
        if claim is not None:
            fail(installation.session, claim, scrub(str(error)))
        elif status is Status.SKIPPED:
            run_id = record_ended(installation.session, request, status, scrub(str(error)), attempt)
    except MaunticJobsError as unrecorded:
        request.log(f"{request.job.name}: the ledger does not know of this: {unrecorded}")
    return Failure(status, error, run_id)


def record_stop(installation: Installation, request: Request, claim: RunClaim | None, signal: str) -> None:
    """Write to the ledger that a signal stopped the run."""
    if claim is None:
        return
    try:
        stop(installation.session, claim, signal)
    except MaunticJobsError as unrecorded:
        request.log(f"{request.job.name}: the ledger does not know of this: {unrecorded}")
