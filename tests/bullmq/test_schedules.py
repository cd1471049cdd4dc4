"""Registering job schedulers."""

from contextlib import closing

import pytest

from mauntic_jobs.bullmq import (
    Queue,
    Registration,
    ScheduledJob,
    register_scheduled_jobs,
    unregister_scheduled_jobs,
)
from mauntic_jobs.errors import UsageError
from mauntic_jobs.stores.bullmq.consumer import QueueConsumer
from mauntic_jobs.timekeeping import clock
from tests.bullmq.queues import ask, ids_in, now_ms


def test_registering_is_idempotent_and_keeps_a_job_that_waits(queue: Queue) -> None:
    now = clock.now()
    job = ScheduledJob("test", "* * * * *", {"note": 1})
    assert register_scheduled_jobs(queue, [job], now=now) == {"test": Registration.ADDED}
    (first,) = ids_in(queue, "delayed")
    with closing(queue.connect()) as redis:
        assert QueueConsumer(redis, queue.key).take(now_ms() + 60_000)
    assert register_scheduled_jobs(queue, [job], now=now) == {"test": Registration.UNCHANGED}
    assert ids_in(queue, "active") == [first]
    # At another instant than the job in hand, whose id BullMQ would refuse to give twice.
    changed = ScheduledJob("test", "30 12 1 1 *", {"note": 1})
    assert register_scheduled_jobs(queue, [changed], now=now, dry_run=True) == {"test": Registration.CHANGED}
    assert register_scheduled_jobs(queue, [changed], now=now) == {"test": Registration.CHANGED}
    assert unregister_scheduled_jobs(queue, ["test", "other"]) == {
        "test": Registration.REMOVED,
        "other": Registration.ABSENT,
    }
    assert ids_in(queue, "delayed") == []


def test_a_cron_line_that_is_none_is_refused_before_anything_is_registered(queue: Queue) -> None:
    with pytest.raises(UsageError, match="is not a valid cron expression"):
        register_scheduled_jobs(queue, [ScheduledJob("test", "61 * * * *")])
    assert ask(queue, "KEYS", f"{queue.key}:*") == []


@pytest.mark.parametrize("lost", ["its key", "its end"])
def test_a_scheduler_whose_next_job_was_lost_is_started_again(queue: Queue, lost: str) -> None:
    job = ScheduledJob("test", "0 * * * *")
    register_scheduled_jobs(queue, [job])
    (first,) = ids_in(queue, "delayed")
    ask(queue, "ZREM", f"{queue.key}:delayed", first)
    if lost == "its key":
        ask(queue, "DEL", f"{queue.key}:{first}")
    else:  # by a worker that did not make the next one
        ask(queue, "RENAME", f"{queue.key}:{first}", f"{queue.key}:repeat:test:3600000")
        ask(queue, "HSET", f"{queue.key}:repeat:test:3600000", "finishedOn", 1)
        ask(queue, "ZADD", f"{queue.key}:repeat", 3_600_000, "test")
    assert register_scheduled_jobs(queue, [job], dry_run=True) == {"test": Registration.RESTARTED}
    assert register_scheduled_jobs(queue, [job]) == {"test": Registration.RESTARTED}
    assert len(ids_in(queue, "delayed")) == 1
    assert register_scheduled_jobs(queue, [job]) == {"test": Registration.UNCHANGED}
