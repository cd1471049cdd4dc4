"""Description of the work on one queue: which jobs, how many at once, and what is done with each."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from mauntic_jobs.delivery.job_outcome import Decision
from mauntic_jobs.stores.bullmq.job import ReceivedJob

# What is done with a job and its data; an exception fails the attempt.
Process = Callable[[ReceivedJob, str], Awaitable[Decision]]
# What is noted of a job and its data, with which a worker of another program died.
NoteLoss = Callable[[ReceivedJob, str], Awaitable[None]]


async def _note_nothing(_job: ReceivedJob, _data: str) -> None:
    """Leave no note."""


def _ignore() -> None:
    """Do nothing about a marker."""


@dataclass(frozen=True)
class Work:
    """A queue, by its prefix and name, how many of its jobs are worked on at once, and how.

    `ahead` is how many more are worked on while they are quickly done. `aside` says how many of those in hand have
    others worked on beside them. With `until_empty`, jobs that cannot be taken yet are waited for as long as others are
    settled, and then for `drain_seconds`.

    As long as `is_held` says so, nothing is taken. `note_loss` is called before `process` for a job with which a worker
    of another program died. `on_mark` is called when the queue says that a job may be there.

    `policy` holds the options of jobs without their own, in BullMQ's terms.
    """

    base: str
    concurrency: int
    policy: Mapping[str, object]
    process: Process
    aside: Callable[[], int] = lambda: 0
    is_held: Callable[[], bool] = lambda: False
    ahead: int = 0
    drain_seconds: float = 10.0
    note_loss: NoteLoss = _note_nothing
    on_mark: Callable[[], None] = _ignore
