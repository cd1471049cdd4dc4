"""Records of runs that did not succeed."""

from collections.abc import Iterator
from contextlib import contextmanager

from mauntic_jobs.errors import FencedError, JobFailedError, LockedError, MaunticJobsError, SlotClaimedError
from mauntic_jobs.installation import Installation
from mauntic_jobs.job import Overlap
from mauntic_jobs.redaction.text import scrub
from mauntic_jobs.runner.claim import RunClaim, fail, record_ended, stop
from mauntic_jobs.runner.request import Request, Status


def record_failure(
    installation: Installation, request: Request, claim: RunClaim | None, error: MaunticJobsError, attempt: int
) -> tuple[Status, MaunticJobsError, int | None]:
    """Write how the run failed to the ledger; return its status, the error to report, and the run's number, if any.

    A run that was taken over, or whose slot is another's, leaves no trace; one that met another run is skipped or
    fails, by its policy for overlaps.
    """
    run_id = claim.id if claim else None
    if isinstance(error, FencedError | SlotClaimedError):
        return Status.LOST if isinstance(error, FencedError) else Status.SKIPPED, error, run_id
    status = Status.FAILED
    if isinstance(error, LockedError) and request.overlap is Overlap.SKIP:
        status = Status.SKIPPED
    elif isinstance(error, LockedError):
        error = JobFailedError(str(error))
    with _unrecorded_logged(request):
        if claim is not None:
            fail(installation.session, claim, scrub(str(error)))
        elif status is Status.SKIPPED:
            run_id = record_ended(installation.session, request, status, scrub(str(error)), attempt)
    return status, error, run_id


def record_stop(installation: Installation, request: Request, claim: RunClaim | None, signal: str) -> None:
    """Write to the ledger that a signal stopped the run, if it had its claim."""
    with _unrecorded_logged(request):
        if claim is not None:
            stop(installation.session, claim, signal)


@contextmanager
def _unrecorded_logged(request: Request) -> Iterator[None]:
    try:
        yield
    except MaunticJobsError as unrecorded:
        request.log(f"{request.job.name}: the ledger does not know of this: {unrecorded}")
