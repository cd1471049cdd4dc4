"""One run of one job for one window: claim it, attempt it until it succeeds or may not be tried again, record it."""

import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any

from mauntic_jobs.alerts.heartbeat_pings import Heartbeats
from mauntic_jobs.errors import (
    ExitCode,
    FencedError,
    Interrupted,
    JobFailedError,
    LockedError,
    MaunticJobsError,
    RefusedError,
    SlotClaimedError,
)
from mauntic_jobs.job import Context, JobResult, Overlap
from mauntic_jobs.jobs.buckets import lock_bucket
from mauntic_jobs.redaction.text import scrub
from mauntic_jobs.runner import claim as claims
from mauntic_jobs.runner.claim import RunClaim
from mauntic_jobs.runner.heartbeat import Heartbeat
from mauntic_jobs.runner.notify import answers_slot, never_failing, tell_end
from mauntic_jobs.runner.outbox import publish
from mauntic_jobs.runner.plausibility import judged
from mauntic_jobs.runner.request import Report, Request, Status
from mauntic_jobs.runner.slot_request import read_remarks
from mauntic_jobs.runner.textfile import leave_numbers
from mauntic_jobs.stores.postgres.session import Limits, Session, open_session
from mauntic_jobs.stores.redis.client import RedisScripts, open_redis
from mauntic_jobs.telemetry.logs import bind, bound
from mauntic_jobs.timekeeping.window import format_duration

_NOTHING = JobResult({})
_SHORTEST_IDLE_TIMEOUT = timedelta(minutes=1)


def run(request: Request) -> Report:
    """Make one run and return how it ended; only a signal or a defect leaves by exception.

    Faults that can pass are tried again under the job's policy. What the job writes and the ledger's `succeeded` are
    committed together, so a run that is killed leaves nothing half done.
    """
    with bound(job=request.job.name, window=str(request.window), launcher=request.launcher.value):
        made = _Run(request)
        try:
            return made.told(made.attempted())
        finally:
            made.close()


class _Run:
    """One run over its attempts: its connection, its claim and what it has written but perhaps not committed."""

    def __init__(self, request: Request) -> None:
        self._started = time.monotonic()
        self._attempt = 0
        self._run_id: int | None = None
        self._request = request
        self._pings = Heartbeats(request.settings, request.job.name) if answers_slot(request) else None
        self._session: Session | None = None
        self._redis: RedisScripts | None = None
        self._claim: RunClaim | None = None
        self._written: JobResult | None = None
        self._refusal: RefusedError | None = None
        self._committed = False
        self._last_error = ""
        self._remarks: list[str] | None = None
        self._heartbeat = ExitStack()

    def attempted(self) -> Report:
        """Make the run, record how it ended, and report it."""
        try:
            result = self._until_done()
        except MaunticJobsError as raised:
            return self._report(*self._record(raised))
        except Interrupted as signal:
            self._record_stop(str(signal))
            leave_numbers(self._request, self._report(Status.STOPPED, None))
            if self._pings:
                # A check that was started and does not end stays armed: the slot is due again.
                self._pings.wait()
            raise
        except Exception as defect:
            failed = JobFailedError(f"{type(defect).__name__}: {defect}")
            self.told(self._report(*self._record(failed)))
            raise
        return self._report(Status.DRY_RUN if self._request.dry_run else Status.SUCCEEDED, None, result)

    def told(self, report: Report) -> Report:
        """Tell who has to know how the run ended; return the report with the alerts that no channel took."""
        # Which would find that the run has ended, and take it for another's.
        self._heartbeat.close()
        request, now = self._request, self._request.now + timedelta(seconds=report.seconds)
        if report.status not in (Status.SKIPPED, Status.LOST):
            text = f"run {report.run_id}: {report.status}"
            never_failing(request, "no heartbeat", lambda: self._ping(report.exit_code, text), None)
        report = never_failing(request, "no alerts", lambda: tell_end(self._connected, request, report, now), report)
        never_failing(request, "no numbers", lambda: leave_numbers(request, report), None)
        problem = never_failing(request, "no heartbeat", lambda: self._pings.wait() if self._pings else None, None)
        if problem is not None:
            request.tell(f"{request.job.name}: a heartbeat was not taken: {problem}")
        return report

    def _ping(self, code: ExitCode, text: str) -> None:
        if self._pings:
            self._pings.end(code, text)

    def _until_done(self) -> JobResult:
        """Attempt the run until it succeeds. Raises the last attempt's error."""
        delays = iter(self._request.settings.retry_delays(self._request.job.name))
        while True:
            self._attempt += 1
            try:
                return self._rehearse() if self._request.dry_run else self._work()
            except MaunticJobsError as error:
                delay = next(delays, None) if error.transient else None
                if delay is None and self._written is not None and self._committed:
                    return self._unpublished(self._written, error)
                if delay is None:
                    raise
                self._last_error = scrub(str(error))
                self._request.tell(
                    f"{self._request.job.name}: attempt {self._attempt} failed, the next follows in "
                    f"{format_duration(delay)}: {self._last_error}"
                )
                time.sleep(delay.total_seconds())

    def _record(self, error: MaunticJobsError) -> tuple[Status, MaunticJobsError]:
        """Write how the run failed to the ledger, and return the status and the error to report."""
        overlap = self._request.overlap
        if isinstance(error, FencedError):
            return Status.LOST, error
        if isinstance(error, SlotClaimedError):
            return Status.SKIPPED, error
        status = Status.FAILED
        if isinstance(error, LockedError):
            status = Status.SKIPPED if overlap is Overlap.SKIP else Status.FAILED
            error = error if overlap is Overlap.SKIP else JobFailedError(str(error))
        try:
            self._write_end(status, scrub(str(error)))
        except MaunticJobsError as unrecorded:
            self._request.tell(f"{self._request.job.name}: the ledger does not know of this: {unrecorded}")
        return status, error

    def _record_stop(self, signal: str) -> None:
        try:
            if self._claim is not None:
                claims.stop(self._connected(), self._claim, signal)
        except MaunticJobsError as unrecorded:
            self._request.tell(f"{self._request.job.name}: the ledger does not know of this: {unrecorded}")

    def close(self) -> None:
        """Stop the heartbeat and close the connections."""
        self._heartbeat.close()
        if self._redis is not None:
            self._redis.close()
        if self._session is not None:
            self._session.close()

    def _work(self) -> JobResult:
        request, session = self._request, self._connected()
        if self._claim is None:
            claim = self._claim = claims.acquire(session, request, self._attempt)
            self._run_id = claim.id
            bind(run=claim.id)
            self._heartbeat.enter_context(Heartbeat(request, claim, self._stop_working))
            if self._pings:
                self._pings.start()
        else:
            claim = self._claim
            status = claims.next_attempt(session, claim, self._attempt, self._last_error)
            if status is Status.SUCCEEDED and self._written is not None:
                # The connection was lost after the server had committed, or while publishing.
                self._publish(session, self._connected_redis())
                return self._written
            if status is Status.FAILED and self._refusal is not None:
                raise self._refusal
        redis = self._connected_redis()
        if self._remarks is None:
            self._remarks = read_remarks(session, request)
        with session.transaction(self._limits(claim.name)):
            for bucket in request.coverage.split(request.job.bucket):
                lock_bucket(session, request.job.name, bucket if request.job.bucket else None)
            result = request.job.run(self._context(session, redis), request.coverage)
            if result.refusal is None:
                written = self._written = judged(session, request, result)
                problems = scrub("; ".join([*self._remarks, *written.problems])) or None
                claims.succeed(session, claim, written.counters, problems)
            else:
                self._refusal = result.refusal
                claims.refuse(session, claim, scrub(str(result.refusal)))
        if result.refusal is not None:
            raise result.refusal
        self._publish(session, redis)
        return written

    def _publish(self, session: Session, redis: RedisScripts | None) -> None:
        self._committed = True
        self._heartbeat.close()
        if self._request.job.publishes and redis is not None:
            publish(session, redis, self._request.settings, self._request.now)

    def _unpublished(self, written: JobResult, error: MaunticJobsError) -> JobResult:
        problem = f"what the run committed is not on its queue yet: {error} The next run publishes it, or "
        problem += "`mauntic-jobs outbox publish` does."
        return replace(written, partial=True, problems=[*written.problems, problem])

    def _rehearse(self) -> JobResult:
        session, redis = self._connected(), self._connected_redis()
        with session.rehearsal(self._limits("mauntic-jobs dry run")):
            result = self._request.job.run(self._context(session, redis), self._request.coverage)
            if result.refusal is not None:
                raise result.refusal
            return result

    def _connected(self) -> Session:
        if self._session is None or self._session.broken:
            self._session = open_session(self._request.settings)
        return self._session

    def _connected_redis(self) -> RedisScripts | None:
        if self._redis is None and self._request.job.redis:
            self._redis = open_redis(self._request.settings)
        return self._redis

    def _context(self, session: Session, redis: RedisScripts | None) -> Context[Any]:
        request = self._request
        return Context(
            transaction=session,
            options=request.options,
            settings=request.settings,
            now=request.now,
            dry_run=request.dry_run,
            warn=request.tell,
            redis=redis,
            slot=request.slot,
        )

    def _limits(self, name: str) -> Limits:
        settings = self._request.settings
        idle_timeout = max(settings.takeover_after, _SHORTEST_IDLE_TIMEOUT)
        return Limits(name, settings.statement_timeout, idle_timeout, settings.work_mem)

    def _stop_working(self) -> None:
        if self._session is not None:
            self._session.cancel()

    def _write_end(self, status: Status, error: str) -> None:
        if self._claim is not None:
            claims.fail(self._connected(), self._claim, error)
        elif status is Status.SKIPPED:
            self._run_id = claims.record_ended(self._connected(), self._request, status, error, self._attempt)

    def _report(self, status: Status, error: MaunticJobsError | None, result: JobResult = _NOTHING) -> Report:
        return Report(
            job=self._request.job.name,
            window=self._request.window,
            status=status,
            run_id=self._run_id,
            attempt=self._attempt,
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
