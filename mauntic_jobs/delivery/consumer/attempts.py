"""Attempts at jobs: reads a job, has it processed while the stores work, and turns errors into decisions."""

import errno
from collections.abc import Callable
from dataclasses import replace

from mauntic_jobs.delivery.consumer.outage import Outage
from mauntic_jobs.delivery.consumer.queue_calls import QueueCalls
from mauntic_jobs.delivery.consumer.stalls import Stalls
from mauntic_jobs.delivery.consumer.work import Work
from mauntic_jobs.delivery.job_outcome import Decision, Defer, Fail, GiveBack, Retry
from mauntic_jobs.delivery.sending.failover import clean
from mauntic_jobs.errors import JobFailedError, MaunticJobsError, is_outage
from mauntic_jobs.stores.bullmq.commands import Taken
from mauntic_jobs.stores.bullmq.job import ReceivedJob, UnrecoverableError, received
from mauntic_jobs.timekeeping import clock

# Errors of a process or a machine that has no descriptors or no memory left, and the pause that they give a job.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_EXHAUSTED_SECONDS = 30.0


class Attempts:
    """Decides about the jobs of one queue."""

    def __init__(self, work: Work, calls: QueueCalls, outage: Outage, stalls: Stalls) -> None:
        self._work = work
        self._calls = calls
        self._outage = outage
        self._stalls = stalls

    async def decide(self, taken: Taken, is_stopping: Callable[[], bool]) -> tuple[ReceivedJob | None, Decision]:
        """Return the job as it was read, or None, and what is decided about it."""
        if is_stopping():
            return None, GiveBack()
        try:
            # The pipeline reads the data.
            job = received(taken, self._work.policy, with_data=False)
        except UnrecoverableError as error:
            return None, Fail(clean(str(error)))
        if job.retried_by_hand:
            job = replace(job, attempts_made=0, retried=clock.now())
        while (decision := await self._attempt(job, taken)) is None:
            if is_stopping():
                return job, GiveBack()
            await self._outage.wait()
        if job.retried_by_hand:
            await self._calls.restart_attempts(job.id)
        if isinstance(decision, Retry) and job.last_attempt:
            decision = Fail(decision.reason)
        return job, decision

    async def _attempt(self, job: ReceivedJob, taken: Taken) -> Decision | None:
        """Return what is decided about a job, or None while a store is away."""
        data = taken.fields.get("data", "")
        try:
            if self._stalls.is_foreign(taken):
                await self._work.note_loss(job, data)
                await self._stalls.account_for(taken)
            decision = await self._work.process(job, data)
        except JobFailedError as error:
            return Fail(clean(str(error)))
        except MaunticJobsError as error:
            if not is_outage(error):
                return Retry(clean(str(error)))
            self._outage.note(error)
            return None
        except Exception as error:  # noqa: BLE001 - one job's fault is not to end the others
            if isinstance(error, OSError) and error.errno in _EXHAUSTED:
                # The process has too much open: that is not the job's fault.
                return Defer(_EXHAUSTED_SECONDS, clean(str(error)))
            return Retry(clean(f"{type(error).__name__}: {error}"))
        self._outage.note(None)
        return decision
