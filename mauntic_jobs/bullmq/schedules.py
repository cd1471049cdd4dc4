"""Registering job schedulers: BullMQ then adds a job to the queue at each instant of a cron line."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from mauntic_jobs import clock
from mauntic_jobs.bullmq.iteration import milliseconds
from mauntic_jobs.bullmq.queue import Queue
from mauntic_jobs.cron import check_cron, next_slot
from mauntic_jobs.stores.bullmq_schedulers import Scheduler, add_scheduler, has_next, read_scheduler, remove_scheduler

# Jobs of our schedulers carry this in their data, and by it the schedulers are told from others'.
_MARK = {"registeredBy": "mauntic-jobs"}


class Registration(StrEnum):
    """What became of one job scheduler."""

    ADDED = "added"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    RESTARTED = "restarted, because its next job was lost"
    REMOVED = "removed"
    ABSENT = "absent"
    FOREIGN = "left alone, because another program registered it"


_WRITTEN = {Registration.ADDED, Registration.CHANGED, Registration.RESTARTED}


@dataclass(frozen=True)
class ScheduledJob:
    """A job to be added to a queue at each instant of `cron`, in UTC, under `name`, with `data`."""

    name: str
    cron: str
    data: Mapping[str, Any] = field(default_factory=dict)


def register_scheduled_jobs(
    queue: Queue, jobs: Sequence[ScheduledJob], *, now: datetime | None = None, dry_run: bool = False
) -> dict[str, Registration]:
    """Register a job scheduler for each job, under the job's name, and return by name what became of it.

    One that is there already as it should be is not touched; one of another program never is. One whose next job was
    lost is started again. Raises UsageError for a
    cron line that is none, and what the connection raises.
    """
    now = now or clock.now()
    found: dict[str, Registration] = {}
    with closing(queue.connect()) as redis:
        for job in jobs:
            wanted = Scheduler(check_cron(job.cron), "UTC", job.name, {**job.data, **_MARK})
            present = read_scheduler(redis, queue.key, job.name)
            found[job.name] = _outcome(present, wanted)
            if found[job.name] is Registration.UNCHANGED and not has_next(redis, queue.key, job.name):
                found[job.name] = Registration.RESTARTED
            if found[job.name] in _WRITTEN and not dry_run:
                following = milliseconds(next_slot(job.cron, now))
                add_scheduler(redis, queue.key, job.name, wanted, following, milliseconds(now))
    return found


def unregister_scheduled_jobs(queue: Queue, names: Sequence[str], *, dry_run: bool = False) -> dict[str, Registration]:
    """Remove the job schedulers of these names that were registered here, and return what became of each."""
    found: dict[str, Registration] = {}
    with closing(queue.connect()) as redis:
        for name in names:
            present = read_scheduler(redis, queue.key, name)
            if present is None:
                found[name] = Registration.ABSENT
            elif not is_ours(present):
                found[name] = Registration.FOREIGN
            else:
                found[name] = Registration.REMOVED
                if not dry_run:
                    remove_scheduler(redis, queue.key, name)
    return found


def is_ours(scheduler: Scheduler) -> bool:
    """Return whether a job scheduler was registered here."""
    return scheduler.data.items() >= _MARK.items()


def _outcome(present: Scheduler | None, wanted: Scheduler) -> Registration:
    if present is None:
        return Registration.ADDED
    if not is_ours(present):
        return Registration.FOREIGN
    return Registration.UNCHANGED if present == wanted else Registration.CHANGED
