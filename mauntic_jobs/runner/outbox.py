"""Outbox: jobs that committed transactions add to BullMQ queues."""

from datetime import datetime
from typing import NamedTuple

from mauntic_jobs.job import Scripts
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.bullmq.enqueue import QueueJob, add_jobs
from mauntic_jobs.stores.postgres.session import Limits, Session
from mauntic_jobs.timekeeping.epoch import milliseconds

_BATCH = 500

_sql = statements("outbox")


class Published(NamedTuple):
    """What one round of publishing did: jobs put on their queue, and jobs that are not wanted any more."""

    published: int
    dropped: int


def publish(session: Session, redis: Scripts, settings: Settings, now: datetime) -> Published:
    """Publish everything that is due. Safe to run at any time, by any number of processes, and after any kill.

    A job is marked as published after it was added; one that was added twice is added once, by its id.
    """
    published = dropped = 0
    while True:
        with session.transaction(Limits("mauntic-jobs outbox")):
            due = session.rows(_sql["due"], {"limit": _BATCH})
            wanted = [QueueJob(row["queue"], row["job_id"], row["name"], row["data"]) for row in due if row["wanted"]]
            add_jobs(redis, settings.queue_prefix, wanted, milliseconds(now))
            session.execute(_sql["mark_published"], {"now": now, "ids": [row["id"] for row in due]})
        published += len(wanted)
        dropped += len(due) - len(wanted)
        if len(due) < _BATCH:
            return Published(published, dropped)
