"""A worker: takes one job after another from a queue and hands each to a function.

BullMQ's own worker in Python turns an acknowledgement that fails into a job that failed, and gives up jobs whose worker
died twice. This one repeats the acknowledgement, and gives up a job only when its attempts are used up.
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from threading import Event, Thread
from typing import Any

from mauntic_jobs import clock
from mauntic_jobs.bullmq.job import GiveBackError, ReceivedJob, UnrecoverableError, received
from mauntic_jobs.bullmq.queue import Queue
from mauntic_jobs.cron import check_cron, next_slot
from mauntic_jobs.errors import MaunticJobsError, UsageError
from mauntic_jobs.stores.bullmq_consumer import LOCK_MILLISECONDS, QueueConsumer, Taken
from mauntic_jobs.telemetry.scrub import scrub

# What is done with a job: it returns a value that JSON can hold. An exception fails the attempt; UnrecoverableError
# fails the job, and GiveBackError leaves it to others as if it had never been taken.
JobHandler = Callable[[ReceivedJob], Any]

_WAIT_SECONDS = 5.0
_RECOVERY_SECONDS = 30
_LONGEST_PAUSE_SECONDS = 30.0


def create_worker(queue: Queue, handler: JobHandler, *, tell: Callable[[str], None] = lambda _: None) -> "Worker":
    """Return a worker that hands the queue's jobs to `handler`, one at a time; its `run` works until `stop`.

    Jobs without attempts or backoff get the platform's: four attempts, after 1 s, 2 s and 4 s. `tell` gets sentences
    about what goes wrong.
    """
    return Worker(queue, handler, tell)


class Worker:
    """Works on one queue, one job at a time. `busy_with` is the id of the job at hand; `trouble` what is in the way."""

    def __init__(self, queue: Queue, handler: JobHandler, tell: Callable[[str], None]) -> None:
        self.queue = queue
        self.busy_with: str | None = None
        self.trouble: str | None = None
        self.looked_at: datetime = clock.now()
        self._handler = handler
        self._tell = tell
        self._stopping = Event()

    def stop(self) -> None:
        """Take no further job; `run` returns when the one at hand is done. Safe from other threads."""
        self._stopping.set()

    def run(self, *, until_empty: bool = False) -> None:
        """Work until `stop` is called, or with `until_empty` until no job waits. Survives a Redis that goes away."""
        pause = 0.0
        while not self._stopping.is_set():
            try:
                with closing(self.queue.connect()) as redis:
                    consumer = QueueConsumer(redis, self.queue.key)
                    self._set_trouble(None)
                    pause = 0.0
                    self._work(consumer, until_empty=until_empty)
                    return
            except MaunticJobsError as error:
                if not error.transient:
                    raise
                self._set_trouble(str(error))
                pause = min(max(0.5, pause * 2), _LONGEST_PAUSE_SECONDS)
                self._stopping.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - to keep workers apart

    def _work(self, consumer: QueueConsumer, *, until_empty: bool) -> None:
        recovered = float("-inf")
        while not self._stopping.is_set():
            self.looked_at = clock.now()
            if time.monotonic() - recovered > _RECOVERY_SECONDS:
                consumer.recover(_now())
                recovered = time.monotonic()
            taken = consumer.take(_now())
            if taken is not None:
                self._process(consumer, taken)
            elif until_empty:
                return
            else:
                until_due = (consumer.next_due - _now()) / 1000 if consumer.next_due else _WAIT_SECONDS
                consumer.wait(min(max(until_due, 0.01), _WAIT_SECONDS))

    def _process(self, consumer: QueueConsumer, taken: Taken) -> None:
        self.busy_with = taken.id
        try:
            with self._locked(consumer, taken.id):
                self._hand_over(consumer, taken)
        finally:
            self.busy_with = None

    def _hand_over(self, consumer: QueueConsumer, taken: Taken) -> None:
        job: ReceivedJob | None = None
        try:
            job = received(taken)
            self._iterate(consumer, job)
            value = json.dumps(self._handler(job), allow_nan=False)
        except GiveBackError:
            self._acknowledge(taken.id, lambda: consumer.give_back(taken.id))
        except MaunticJobsError as error:
            self._fail(consumer, taken, job, error, for_good=not error.transient)
        except Exception as error:  # noqa: BLE001 - whatever the handler raises, the queue goes on
            self._fail(consumer, taken, job, error, for_good=isinstance(error, UnrecoverableError))
        else:
            keep, attempts = job.kept(failed=False), job.attempts
            self._acknowledge(
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
                taken.id,
                lambda: consumer.finish(taken.id, _now(), failed=True, value=reason, keep=keep, attempts=attempts),
            )
        else:
            delay = job.retry_delay() // timedelta(milliseconds=1)
            self._acknowledge(taken.id, lambda: consumer.delay(taken.id, _now(), delay, reason))

    def _acknowledge(self, job: str, send: Callable[[], int]) -> None:
        """Send an acknowledgement until it arrives. An answer below zero means that the job is another's by now."""
        pause = 0.2
        while True:
            try:
                code = send()
            except MaunticJobsError as error:
                if not error.transient:
                    raise
                self._set_trouble(str(error))
                time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - to keep workers apart
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
                continue
            self._set_trouble(None)
            if code < 0:
                self._tell(f"{self.queue.name}: job {job} was taken by another worker meanwhile (BullMQ's code {code})")
            return

    def _iterate(self, consumer: QueueConsumer, job: ReceivedJob) -> None:
        """Have a job scheduler's next job made, which BullMQ leaves to whoever takes the one before it."""
        repeat = job.options.get("repeat")
        if job.scheduler is None or not isinstance(repeat, dict):
            return
        now = clock.now()
        try:
            following = _following(repeat, max(now, job.due))
        except UsageError as error:
            self._tell(f"{self.queue.name}: job scheduler {job.scheduler} ends here: {error}")
            return
        at = round(following.timestamp() * 1000)
        count = repeat.get("count")
        repeat = {**repeat, "count": (count if isinstance(count, int) else 0) + 1}
        iteration = {"repeat": repeat, "jobId": f"repeat:{job.scheduler}:{at}", "prevMillis": at, "timestamp": _now()}
        consumer.iterate(job.id, job.scheduler, at, {**job.options, **iteration, "repeatJobKey": job.scheduler}, _now())

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

    def _set_trouble(self, trouble: str | None) -> None:
        if trouble is not None and self.trouble is None:
            self._tell(f"{self.queue.name}: goes on trying: {trouble}")
        if trouble is None and self.trouble is not None:
            self._tell(f"{self.queue.name}: works again")
        self.trouble = trouble


def _following(repeat: dict[str, Any], after: datetime) -> datetime:
    if repeat.get("every"):
        return after  # BullMQ's script reckons the next one itself
    zone = repeat.get("tz") or "UTC"
    pattern = str(repeat.get("pattern", ""))
    if zone not in ("UTC", "Etc/UTC", "GMT"):
        raise UsageError(f"its zone is {zone}, and only UTC is understood here")
    # Node's patterns may begin with a field for seconds.
    fields = pattern.split()
    return next_slot(check_cron(" ".join(fields[1:] if len(fields) == 6 and fields[0] == "0" else fields)), after)  # noqa: PLR2004


def _now() -> int:
    return round(clock.now().timestamp() * 1000)
