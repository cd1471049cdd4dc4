"""Attempts at one run: claim it, commit it, publish it; each step is tried again as the job's policy allows."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from mauntic_jobs.errors import Interrupted, JobFailedError, MaunticJobsError, RefusedError
from mauntic_jobs.installation import Installation
from mauntic_jobs.job import JobResult
from mauntic_jobs.runner.claim import RunClaim, acquire
from mauntic_jobs.runner.commit import Commit, rehearse
from mauntic_jobs.runner.failure import record_failure, record_stop
from mauntic_jobs.runner.heartbeat import Heartbeat
from mauntic_jobs.runner.outbox import count_unpublished, left_sentence, publish
from mauntic_jobs.runner.request import Report, Request, Status
from mauntic_jobs.runner.retries import Retries
from mauntic_jobs.telemetry.logs import bind

_NOTHING = JobResult({})


class RunEnd(NamedTuple):
    """The report of a run, and the signal or defect that ended it, to be raised once it is reported."""

    report: Report
    raised: Interrupted | Exception | None = None


class RunAttempts:
    """Attempts at one run, until it succeeds or may not be tried again; its steps share the retries."""

    def __init__(self, request: Request, installation: Installation) -> None:
        self._started = time.monotonic()
        self._request = request
        self._installation = installation
        self._retries = Retries(request.job.name, request.settings.retry_delays(request.job.name), request.log)
        self._claim: RunClaim | None = None

    def run(self, on_claim: Callable[[], None]) -> RunEnd:
        """Attempt the run, record how it ended, and return its report; `on_claim` is called once it has its claim."""
        try:
            if self._request.dry_run:
                result = self._retries.until_done(lambda _: rehearse(self._installation, self._request))
                return RunEnd(self._report(Status.DRY_RUN, result=result))
            committed = self._commit(on_claim)
            return RunEnd(self._report(Status.SUCCEEDED, result=self._publish(committed)))
        except MaunticJobsError as error:
            return RunEnd(self._fail(error))
        except Interrupted as signal:
            record_stop(self._installation, self._request, self._claim, str(signal))
            return RunEnd(self._report(Status.STOPPED), signal)
        except Exception as defect:  # noqa: BLE001 - it is raised once it is reported
            return RunEnd(self._fail(JobFailedError(f"{type(defect).__name__}: {defect}")), defect)

    def _commit(self, on_claim: Callable[[], None]) -> JobResult:
        """Claim the run and commit what its job writes, while the heartbeat shows that the claim is alive."""
        installation, request, retries = self._installation, self._request, self._retries
        claim = self._claim = retries.until_done(lambda _: acquire(installation.session, request, retries.made))
        bind(run=claim.id)
        with Heartbeat(request, claim, installation.cancel):
            on_claim()
            commit = Commit(installation, request, claim)
            return retries.until_done(lambda error: commit.attempt(retries.made, error))

    def _publish(self, committed: JobResult) -> JobResult:
        """Publish what the run has committed to the outbox; it is done in part where that fails for good."""
        if not (self._request.job.publishes and self._request.job.redis):
            return committed
        installation = self._installation
        try:
            done = self._retries.until_done(
                lambda _: publish(installation.session, installation.redis, installation.settings, installation.now)
            )
            if done.full:
                self._request.log(f"{self._request.job.name}: {left_sentence(count_unpublished(installation.session))}")
        except MaunticJobsError as error:
            problem = f"what the run committed is not on its queue yet: {error} The next run publishes it, or "
            problem += "`mauntic-jobs outbox publish` does."
            return replace(committed, partial=True, problems=[*committed.problems, problem])
        return committed

    def _fail(self, error: MaunticJobsError) -> Report:
        made = self._retries.made
        status, error, run_id = record_failure(self._installation, self._request, self._claim, error, made)
        return replace(self._report(status, error), run_id=run_id)

    def _report(self, status: Status, error: MaunticJobsError | None = None, result: JobResult = _NOTHING) -> Report:
        return Report(
            job=self._request.job.name,
            window=self._request.window,
            status=status,
            run_id=self._claim.id if self._claim else None,
            attempt=self._retries.made,
            seconds=time.monotonic() - self._started,
            counters=result.counters,
            changes=result.changes,
            partial=result.partial,
            implausible=result.implausible,
            withheld=result.withheld,
            problems=result.problems,
            summary=error.summary if isinstance(error, RefusedError) else result.summary,
            error=error,
        )
