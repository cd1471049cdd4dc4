"""Outbox: jobs that committed transactions add to BullMQ queues, as far as the queues have room."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.bullmq.enqueue import QueueJob, add_jobs
from mauntic_jobs.stores.postgres.session import Limits, Session
from mauntic_jobs.stores.redis.client import RedisScripts
from mauntic_jobs.timekeeping.epoch import milliseconds

# Where so many jobs wait on a queue, no more are added. That bounds what they take of Redis' memory.
MAX_WAITING = 10_000
# More jobs are not counted.
MAX_COUNTED = 100_000
_BATCH = 500
# How often a queue without room is looked at.
_LOOK_SECONDS = 1.0

_sql = statements("outbox")


class Published(NamedTuple):
    """What publishing did: jobs put on their queue, jobs that are not wanted any more, and whether a queue is full."""

    published: int
    dropped: int
    full: bool


def publish(session: Session, redis: RedisScripts, settings: Settings, now: datetime) -> Published:
    """Publish what is due and finds room. Safe to run at any time, by any number of processes, and after any kill.

    A job is marked as published after it was added; one that was added twice is added once, by its id.
    """
    done = Published(0, 0, full=False)
    for row in session.rows(_sql["queues"]):
        one = _publish_queue(session, redis, settings, row["queue"], now)
        done = Published(done.published + one.published, done.dropped + one.dropped, done.full or one.full)
    return done


def publish_all(
    session: Session, redis: RedisScripts, settings: Settings, clock: Callable[[], datetime], wait: timedelta
) -> Published:
    """Publish until nothing is due any more, waiting for room on full queues, for so long at most."""
    deadline = time.monotonic() + wait.total_seconds()
    published = dropped = 0
    while True:
        done = publish(session, redis, settings, clock())
        published, dropped = published + done.published, dropped + done.dropped
        if not done.full or time.monotonic() + _LOOK_SECONDS > deadline:
            return Published(published, dropped, done.full)
        time.sleep(_LOOK_SECONDS)


def count_unpublished(session: Session) -> int:
    """Return how many jobs wait in the outbox, MAX_COUNTED at most."""
    return int(session.row(_sql["unpublished"], {"most": MAX_COUNTED})["jobs"])


def left_sentence(count: int) -> str:
    """Return what a person is told of jobs that found no room."""
    jobs = f"at least {count:,}" if count >= MAX_COUNTED else f"{count:,}"
    return (
        f"{jobs} in the outbox, because {MAX_WAITING:,} wait on their queue: they are published as its consumers take "
        "those before them, by the clock or by `mauntic-jobs outbox publish --wait 1h`"
    )


def _publish_queue(session: Session, redis: RedisScripts, settings: Settings, queue: str, now: datetime) -> Published:
    published = dropped = after = 0
    while (limit := min(_BATCH, MAX_WAITING - _waiting(redis, f"{settings.queue_prefix}:{queue}"))) > 0:
        with session.transaction(Limits("mauntic-jobs outbox")):
            session.execute(_sql["in_order"])
            due = session.rows(_sql["due"], {"queue": queue, "after": after, "limit": limit})
            wanted = [QueueJob(row["queue"], row["job_id"], row["name"], row["data"]) for row in due if row["wanted"]]
            add_jobs(redis, settings.queue_prefix, wanted, milliseconds(now))
            session.execute(_sql["mark_published"], {"now": now, "ids": [row["id"] for row in due]})
        published += len(wanted)
        dropped += len(due) - len(wanted)
        if len(due) < limit:
            return Published(published, dropped, full=False)
        after = due[-1]["id"]
    return Published(published, dropped, full=True)


def _waiting(redis: RedisScripts, base: str) -> int:
    """Return how many jobs of a queue may be taken now; those that are delayed wait for a time of their own."""
    # BullMQ 5 keeps the waiting jobs of a paused queue in `paused`.
    lists = [("LLEN", f"{base}:wait"), ("LLEN", f"{base}:paused"), ("ZCARD", f"{base}:prioritized")]
    return sum(map(int, redis.commands(lists)))
