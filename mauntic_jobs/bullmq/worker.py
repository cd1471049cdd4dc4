"""A worker: takes one job after another from a queue and hands each to a function.

BullMQ's own worker in Python turns an acknowledgement that fails into a job that failed, and gives up jobs whose worker
died twice. This one repeats the acknowledgement, and gives up a job only when its attempts are used up.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from threading import Event, RLock, Thread
from typing import TypeVar

from mauntic_jobs.aio.backoff import Backoff
from mauntic_jobs.bullmq.queue import Queue
from mauntic_jobs.errors import ConfigurationError, MaunticJobsError
from mauntic_jobs.redaction.text import scrub
from mauntic_jobs.stores.bullmq.commands import LOCK_GONE, LOCK_MILLISECONDS, Taken
from mauntic_jobs.stores.bullmq.consumer import QueueConsumer
from mauntic_jobs.stores.bullmq.iteration import next_iteration
from mauntic_jobs.stores.bullmq.job import GiveBackError, ReceivedJob, UnrecoverableError, received
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.epoch import milliseconds

# What is done with a job: it returns a value that JSON can hold. An exception fails the attempt; UnrecoverableError
# fails the job, and GiveBackError leaves it to others as if it had never been taken.
JobHandler = Callable[[ReceivedJob], object]

_AnswerT = TypeVar("_AnswerT")

_WAIT_SECONDS = 5.0
_RECOVERY_SECONDS = 30
_MAX_PAUSE_SECONDS = 5.0
# How long `stop` waits for a Redis that does not answer.
_STOP_SECONDS = 2.0
# How long nothing is taken before it is asked again whether jobs may be taken.
_REFUSED_SECONDS = 30.0


def create_worker(
    queue: Queue,
    handler: JobHandler,
    *,
    tell: Callable[[str], None] = lambda _: None,
    check: Callable[[], None] = lambda: None,
) -> "Worker":
    """Return a worker that hands the queue's jobs to `handler`, one at a time; its `run` works until `stop`.

    Jobs without attempts or backoff get the platform's: four attempts, after 1 s, 2 s and 4 s. `tell` gets sentences
    about what goes wrong. `check` is called before a job is taken: while it raises ConfigurationError, none is.
    """
    return Worker(queue, handler, tell, check)


class Worker:
    """Works on one queue, one job at a time. `busy_with` is the id of the job at hand; `trouble` what is in the way."""

    def __init__(
        self, queue: Queue, handler: JobHandler, tell: Callable[[str], None], check: Callable[[], None]
    ) -> None:
        self.queue = queue
        self.busy_with: str | None = None
        self.trouble: str | None = None
        self.looked_at: datetime = clock.now()
        self._handler = handler
        self._tell = tell
        self._check = check
        self._stopping = Event()
        self._taking = RLock()
        self._backoff = Backoff(_MAX_PAUSE_SECONDS)

    def stop(self) -> None:
        """Take no further job; `run` returns when the one at hand is done. For other threads and signal handlers.

        Afterwards `busy_with` says which job that is.
        """
        self._stopping.set()
        if self._taking.acquire(timeout=_STOP_SECONDS):
            self._taking.release()

    def run(self, *, until_empty: bool = False) -> None:
        """Work until `stop` is called, or with `until_empty` until no job waits. Survives a Redis that goes away."""
        while not self._stopping.is_set():
            try:
                with closing(self.queue.connect(as_worker=True)) as redis:
                    self._work(QueueConsumer(redis, self.queue.key), until_empty=until_empty)
                    return
            except MaunticJobsError as error:
                if not error.transient:
                    raise
                self._stopping.wait(self._put_off(error))

    def _work(self, consumer: QueueConsumer, *, until_empty: bool) -> None:
        recovered = float("-inf")
        while not self._stopping.is_set():
            self.looked_at = clock.now()
            if time.monotonic() - recovered > _RECOVERY_SECONDS:
                consumer.recover(_now())
                recovered = time.monotonic()
            if self._refused(until_empty=until_empty):
                continue
            taken = self._take(consumer)
            if taken is not None:
                self._process(consumer, taken)
            elif until_empty:
                return
            else:
                until_due = (consumer.next_due - _now()) / 1000 if consumer.next_due else _WAIT_SECONDS
                consumer.wait(min(max(until_due, 0.01), _WAIT_SECONDS))

    def _refused(self, *, until_empty: bool) -> bool:
        """Return whether no job may be taken, after having waited for that to pass."""
        try:
            self._check()
        except ConfigurationError as error:
            if until_empty:
                raise
            self._set_trouble(str(error))
            self._stopping.wait(_REFUSED_SECONDS)
            return True
        return False

    def _take(self, consumer: QueueConsumer) -> Taken | None:
        # Under a lock, so that the caller of `stop` can see whether a job is at hand.
        with self._taking:
            if self._stopping.is_set():
                return None
            taken = consumer.take(_now())
            self.busy_with = taken.id if taken is not None else None
        self._works()
        return taken

    def _process(self, consumer: QueueConsumer, taken: Taken) -> None:
        try:
            with self._locked(consumer, taken.id):
                self._iterate(consumer, taken)
                self._hand_over(consumer, taken)
        finally:
            self.busy_with = None

    def _hand_over(self, consumer: QueueConsumer, taken: Taken) -> None:
        job: ReceivedJob | None = None
        try:
            job = received(taken)
            value = json.dumps(self._handler(job), allow_nan=False)
        except GiveBackError:
            self._acknowledge(consumer, taken.id, lambda: consumer.give_back(taken.id))
        except MaunticJobsError as error:
            self._fail(consumer, taken, job, error, for_good=not error.transient)
        except Exception as error:  # noqa: BLE001 - whatever the handler raises, the queue goes on
            self._fail(consumer, taken, job, error, for_good=isinstance(error, UnrecoverableError))
        else:
            keep, attempts = job.kept(failed=False), job.attempts
            self._acknowledge(
                consumer,
                taken.id,
                lambda: consumer.finish(taken.id, _now(), failed=False, value=value, keep=keep, attempts=attempts),
            )

    def _fail(
        self, consumer: QueueConsumer, taken: Taken, job: ReceivedJob | None, error: Exception, *, for_good: bool
    ) -> None:
        reason = scrub(str(error) or type(error).__name__)
        self._tell(f"{self.queue.name}: job {taken.id} failed: {reason}")
        if job is None or for_good or job.last_attempt:
            keep = {"count": -1} if job is None else job.kept(failed=True)
            attempts = 1 if job is None else job.attempts
            self._acknowledge(
                consumer,
                taken.id,
                lambda: consumer.finish(taken.id, _now(), failed=True, value=reason, keep=keep, attempts=attempts),
            )
        else:
            delay = job.retry_delay() // timedelta(milliseconds=1)
            self._acknowledge(consumer, taken.id, lambda: consumer.delay(taken.id, _now(), delay, reason))

    def _acknowledge(self, consumer: QueueConsumer, job: str, send: Callable[[], int]) -> None:
        """Send an acknowledgement until it arrives, also when Redis was away for longer than a lock lasts."""
        code = self._until_answered(send)
        if code == LOCK_GONE and self._until_answered(lambda: consumer.lock_again(job)):
            code = self._until_answered(send)
        if code < 0:
            self._tell(
                f"{self.queue.name}: job {job} was finished before, or is another's by now (BullMQ's code {code})"
            )

    def _until_answered(self, send: Callable[[], _AnswerT]) -> _AnswerT:
        while True:
            try:
                answer = send()
            except MaunticJobsError as error:
                if not error.transient:
                    raise
                time.sleep(self._put_off(error))
            else:
                self._works()
                return answer

    def _iterate(self, consumer: QueueConsumer, taken: Taken) -> None:
        try:
            following = next_iteration(taken, clock.now())
            if following is not None:
                at, options = following.at, following.options
                self._until_answered(lambda: consumer.iterate(taken.id, following.scheduler, at, options, _now()))
        except (MaunticJobsError, ValueError, OverflowError) as error:  # of which the job at hand is no worse
            self._tell(f"{self.queue.name}: job scheduler {taken.fields.get('rjk')} ends here: {error}")

    @contextmanager
    def _locked(self, consumer: QueueConsumer, job: str) -> Iterator[None]:
        done = Event()

        def renew() -> None:
            while not done.wait(LOCK_MILLISECONDS / 3000):
                try:
                    consumer.extend(job)
                except MaunticJobsError as error:
                    self._set_trouble(str(error))

        thread = Thread(target=renew, name=f"lock of job {job}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _set_trouble(self, trouble: str) -> None:
        if self.trouble is None:
            self._tell(f"{self.queue.name}: goes on trying: {trouble}")
        self.trouble = trouble

    def _put_off(self, error: MaunticJobsError) -> float:
        """Note what is in the way, and return for how many seconds to leave Redis alone."""
        self._set_trouble(str(error))
        return self._backoff.next()

    def _works(self) -> None:
        self._backoff.reset()
        if self.trouble is not None:
            self._tell(f"{self.queue.name}: works again")
        self.trouble = None


def _now() -> int:
    return milliseconds(clock.now())
