"""Registration of job schedulers: BullMQ then adds a job to the queue at each instant of a cron line."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from mauntic_jobs.bullmq.queue import Queue
from mauntic_jobs.stores.bullmq.job_schedulers import (
    Scheduler,
    add_scheduler,
    has_next,
    read_scheduler,
    remove_scheduler,
    scheduler_names,
)
from mauntic_jobs.stores.redis.client import RedisScripts
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.cron import check_cron, next_slot
from mauntic_jobs.timekeeping.epoch import milliseconds

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
    ADOPTED = "taken over from another program"
    FOREIGN = "left alone, because another program registered it"


_WRITTEN = {Registration.ADDED, Registration.CHANGED, Registration.RESTARTED, Registration.ADOPTED}


@dataclass(frozen=True)
class ScheduledJob:
    """A job to be added to a queue at each instant of `cron`, in UTC, under `name`, with `data`."""

    name: str
    cron: str
    data: Mapping[str, object] = field(default_factory=dict)


def register_scheduled_jobs(
    queue: Queue,
    jobs: Sequence[ScheduledJob],
    *,
    now: datetime | None = None,
    dry_run: bool = False,
    exclusive: bool = False,
    adopt: bool = False,
) -> dict[str, Registration]:
    """Register a job scheduler for each job, under the job's name, and return by name what became of it.

    One that is there already as it should be is not touched. One whose next job was lost is started again. One of
    another program is left alone, and with `adopt` replaced. `exclusive` says that the queue has these jobs only: a
    scheduler of another program on it launches them, whatever it is called, and counts like one under their name.
    Raises UsageError for an invalid cron line, and what the connection raises.
    """
    now = now or clock.now()
    found: dict[str, Registration] = {}
    with closing(queue.connect()) as redis:
        foreign = foreign_schedulers(redis, queue.key)
        for job in jobs:
            wanted = Scheduler(check_cron(job.cron), "UTC", job.name, {**job.data, **_MARK})
            others = [name for name in foreign if exclusive or name == job.name]
            found[job.name] = _outcome(redis, queue.key, wanted, others, adopt=adopt)
            if found[job.name] in _WRITTEN and not dry_run:
                # Removed first: if this process ends in between, no scheduler is better than two.
                for name in others:
                    remove_scheduler(redis, queue.key, name)
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


def foreign_schedulers(redis: RedisScripts, key: str) -> dict[str, Scheduler]:
    """Return by name the job schedulers of other programs on a queue; `key` is its prefix and name."""
    found = {name: read_scheduler(redis, key, name) for name in scheduler_names(redis, key)}
    unknown = Scheduler("", "", "", {})
    return {name: each or unknown for name, each in found.items() if each is None or not is_ours(each)}


def is_ours(scheduler: Scheduler) -> bool:
    """Return whether a job scheduler was registered here."""
    return scheduler.data.items() >= _MARK.items()


def _outcome(redis: RedisScripts, key: str, wanted: Scheduler, others: Sequence[str], *, adopt: bool) -> Registration:
    if others:
        return Registration.ADOPTED if adopt else Registration.FOREIGN
    present = read_scheduler(redis, key, wanted.name)
    if present is None:
        return Registration.ADDED
    if present != wanted:
        return Registration.CHANGED
    return Registration.UNCHANGED if has_next(redis, key, wanted.name) else Registration.RESTARTED
