"""Windows of a backfill as jobs of BullMQ, for the `work` processes of any host."""

from collections.abc import Mapping
from typing import NamedTuple

from mauntic_jobs.backfill.store import Backfill, WindowState, read_windows
from mauntic_jobs.installation import Installation
from mauntic_jobs.job import AnyJob
from mauntic_jobs.stores.bullmq.enqueue import QueueJob, add_jobs
from mauntic_jobs.timekeeping.epoch import milliseconds
from mauntic_jobs.timekeeping.window import Window, parse_instant

# The data of such a job names its backfill and its window.
BACKFILL, START, END = "backfill", "windowStart", "windowEnd"
# And how many windows may be run at a time, over all hosts: the database serves others, too.
AT_MOST = "atMost"
# Behind the slots, whose jobs have none: live runs go first.
_PRIORITY = 10


def enqueue(installation: Installation, job: AnyJob, backfill: Backfill, *, failed_only: bool) -> int:
    """Put the windows that are left on the job's queue, with `failed_only` those that failed; return how many.

    A window that is on the queue twice is run once. Raises what the stores raise.
    """
    wanted = {WindowState.FAILED} if failed_only else {WindowState.FAILED, WindowState.WAITING}
    left = [each.window for each in read_windows(installation.session, backfill.id) if each.state in wanted]
    stamp = milliseconds(installation.now)
    jobs = [
        QueueJob(
            job.queue,
            # Not the id of an earlier pass, whose job BullMQ may still know.
            f"backfill-{backfill.id}-{window.start:%Y%m%dT%H%M}-{stamp}",
            job.name,
            {
                BACKFILL: backfill.id,
                START: window.start.isoformat(),
                END: window.end.isoformat(),
                AT_MOST: backfill.parallel,
            },
            _PRIORITY,
        )
        for window in (reversed(left) if backfill.newest_first else left)
    ]
    add_jobs(installation.redis, installation.settings.queue_prefix, jobs, stamp)
    return len(jobs)


class WindowOfJob(NamedTuple):
    """A window of a backfill, as a job's data names it. `at_most` of its windows run at a time; None: any number."""

    backfill: int
    window: Window
    at_most: int | None


def window_of_job(data: Mapping[str, object]) -> WindowOfJob:
    """Return what a job's data asks for. Raises UsageError or ValueError."""
    window = Window(parse_instant(str(data.get(START))), parse_instant(str(data.get(END))))
    at_most = data.get(AT_MOST)
    return WindowOfJob(int(str(data[BACKFILL])), window, None if at_most is None else int(str(at_most)))
