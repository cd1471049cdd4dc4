"""Commit of a run: the transaction in which the job works and the ledger records that it did."""

from datetime import timedelta

from mauntic_jobs.installation import Installation
from mauntic_jobs.job import Context, JobOptions, JobResult
from mauntic_jobs.jobs.buckets import lock_bucket
from mauntic_jobs.redaction.text import scrub
from mauntic_jobs.runner.claim import RunClaim, next_attempt, refuse, succeed
from mauntic_jobs.runner.plausibility import check_plausibility
from mauntic_jobs.runner.request import Request, Status
from mauntic_jobs.runner.slot_request import read_remarks
from mauntic_jobs.stores.postgres.session import Limits, Session
from mauntic_jobs.stores.redis.client import RedisScripts

_MIN_IDLE_TIMEOUT = timedelta(minutes=1)


class Commit:
    """What a claimed run writes, over its attempts: a commit whose answer was lost is not made twice."""

    def __init__(self, installation: Installation, request: Request, claim: RunClaim) -> None:
        self._installation = installation
        self._request = request
        self._claim = claim
        self._remarks: list[str] | None = None
        # Whether it is committed is in the ledger.
        self._written: JobResult | None = None

    def attempt(self, number: int, error: str | None) -> JobResult:
        """Run the job and commit its rows with the ledger's entry; `error` is that of the attempt before, if any.

        Raises RefusedError once the refusal is committed, FencedError if the run is another's, and the job's errors.
        """
        session = self._installation.session
        if error is not None and (written := self._committed(next_attempt(session, self._claim, number, error))):
            return _accepted(written)
        redis = _redis(self._installation, self._request)
        if self._remarks is None:
            self._remarks = read_remarks(session, self._request)
        with session.transaction(_limits(self._request, self._claim.name)):
            _lock_buckets(session, self._request)
            written = self._write(session, redis, self._remarks)
        # Only once what the job wrote about a refusal is committed.
        return _accepted(written)

    def _committed(self, status: Status) -> JobResult | None:
        """Return what an earlier attempt committed, by the run's status in the ledger: only its answer was lost."""
        written = self._written
        ended = Status.FAILED if written and written.refusal else Status.SUCCEEDED
        return written if status is ended else None

    def _write(self, session: Session, redis: RedisScripts | None, remarks: list[str]) -> JobResult:
        result = _run_job(session, redis, self._request, self._claim.id)
        if result.refusal is None:
            result = check_plausibility(session, self._request, result)
        self._written = result
        if result.refusal is not None:
            refuse(session, self._claim, scrub(str(result.refusal)))
        else:
            succeed(session, self._claim, result.counters, scrub("; ".join([*remarks, *result.problems])) or None)
        return result


def rehearse(installation: Installation, request: Request) -> JobResult:
    """Run the job and roll back what it writes."""
    session, redis = installation.session, _redis(installation, request)
    with session.rehearsal(_limits(request, "mauntic-jobs dry run")):
        return _accepted(_run_job(session, redis, request, None))


def _redis(installation: Installation, request: Request) -> RedisScripts | None:
    """Return the connection of a job that needs Redis, before it begins anything. Raises UnavailableError."""
    return installation.redis if request.job.redis else None


def _accepted(result: JobResult) -> JobResult:
    """Return the result. Raises the refusal of a job that wrote nothing but why."""
    if result.refusal is not None:
        raise result.refusal
    return result


def _lock_buckets(session: Session, request: Request) -> None:
    bucket = request.job.bucket
    for window in request.coverage.split(bucket):
        lock_bucket(session, request.job.name, window if bucket else None)


def _run_job(session: Session, redis: RedisScripts | None, request: Request, run: int | None) -> JobResult:
    context = Context[JobOptions](
        transaction=session,
        options=request.options,
        settings=request.settings,
        now=request.now,
        dry_run=request.dry_run,
        warn=request.log,
        redis=redis,
        slot=request.slot,
        expects=request.expects,
        run=run,
    )
    return request.job.run(context, request.coverage)


def _limits(request: Request, name: str) -> Limits:
    settings = request.settings
    idle_timeout = max(settings.takeover_after, _MIN_IDLE_TIMEOUT)
    return Limits(name, settings.statement_timeout, idle_timeout, settings.work_mem)
