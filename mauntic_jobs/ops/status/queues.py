"""State of the platform's queues in Redis, read in a few round trips however long they are."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from mauntic_jobs.errors import ConfigurationError, JobFailedError
from mauntic_jobs.lua import script
from mauntic_jobs.ops.queues import PlatformQueue
from mauntic_jobs.stores.bullmq.job import integer_in
from mauntic_jobs.stores.bullmq.workers import foreign_workers
from mauntic_jobs.stores.redis.client import RedisScripts
from mauntic_jobs.timekeeping.epoch import instant_of, milliseconds

_MINUTE = timedelta(minutes=1)
# By the fields of QueueStatus: the command and the key that count jobs, and the key of those that have ended.
_LENGTHS = {
    "waiting": ("LLEN", "wait"),
    "paused": ("LLEN", "paused"),
    "active": ("LLEN", "active"),
    **{name: ("ZCARD", name) for name in ("prioritized", "delayed", "failed", "completed")},
}
_ENDED = {"completed_last_minute": "completed", "failed_last_minute": "failed"}


@dataclass(frozen=True)
class QueueStatus:
    """How many jobs are in each state, as BullMQ counts them.

    `completed_last_minute` and `failed_last_minute` count jobs that have ended and are still kept. `waiting_since` is
    when the one that waits longest became ready to be taken, `failed_since` when the oldest of the failed ones failed.
    `is_limited`: all that could be taken wait for rate limits, pauses, or providers that fail
    or are slow.
    `other_workers` is how many connections BullMQ workers of other programs have there, None if the server hides them.
    """

    queue: PlatformQueue
    waiting: int
    paused: int
    prioritized: int
    active: int
    delayed: int
    failed: int
    completed: int
    completed_last_minute: int
    failed_last_minute: int
    is_paused: bool
    is_limited: bool
    waiting_since: datetime | None
    failed_since: datetime | None
    other_workers: int | None

    @property
    def ready(self) -> int:
        """How many jobs could be taken at once."""
        return self.waiting + self.paused + self.prioritized

    @property
    def empty(self) -> bool:
        """Whether there is nothing to tell of it."""
        return not (self.ready or self.active or self.delayed or self.failed or self.completed_last_minute)


def read_queues(redis: RedisScripts, queues: Sequence[PlatformQueue], now: datetime) -> list[QueueStatus]:
    """Return how the queues stand at `now`. Raises what the store raises."""
    calls = [_calls(queue.base, now) for queue in queues]
    answers = iter(redis.commands(call for each in calls for call in each))
    found = [[next(answers) for _ in each] for each in calls]
    keys = [[f"{queue.base}:wait", f"{queue.base}:prioritized"] for queue in queues]
    arguments = [[f"{queue.base}:"] for queue in queues]
    heads = redis.run(script("oldest_waiting") + script("next_waiting"), zip(keys, arguments, strict=True))
    limited = {queue.base: bool(is_limited) for queue, (is_limited, _) in zip(queues, heads, strict=True)}
    ids = [None if job is None else job.decode(errors="surrogateescape") for _, job in heads]
    wanted = [(queue, job) for queue, job in zip(queues, ids, strict=True) if job is not None]
    read = redis.commands(
        ["HMGET", f"{queue.base}:{job}", "timestamp", "delay", "processedOn"] for queue, job in wanted
    )
    since = {queue.base: _ready_since(fields) for (queue, _), fields in zip(wanted, read, strict=True)}
    others = _other_workers(redis)
    workers = {queue.base: None if others is None else others[queue.base] for queue in queues}
    return [
        _status(queue, each, since.get(queue.base), workers[queue.base], is_limited=limited[queue.base])
        for queue, each in zip(queues, found, strict=True)
    ]


def _other_workers(redis: RedisScripts) -> Counter[str] | None:
    try:
        return foreign_workers(chain.from_iterable(redis.on_each_node("CLIENT LIST").values()))
    except (ConfigurationError, JobFailedError):  # managed services allow no CLIENT LIST
        return None


def _calls(base: str, now: datetime) -> list[list[str | float]]:
    minute_ago = milliseconds(now - _MINUTE)
    lengths: list[list[str | float]] = [[command, f"{base}:{key}"] for command, key in _LENGTHS.values()]
    lengths += [["ZCOUNT", f"{base}:{key}", minute_ago, "+inf"] for key in _ENDED.values()]
    return [
        *lengths,
        ["HEXISTS", f"{base}:meta", "paused"],
        ["ZRANGE", f"{base}:failed", 0, 0, "WITHSCORES"],
    ]


def _ready_since(fields: Sequence[bytes | None]) -> datetime | None:
    added, delay, processed = (integer_in(each) or 0 for each in fields)
    latest = max(added + delay, processed)
    return instant_of(latest) if latest else None


def _status(
    queue: PlatformQueue,
    answers: Sequence[Any],
    waiting_since: datetime | None,
    other_workers: int | None,
    *,
    is_limited: bool,
) -> QueueStatus:
    counts = dict(zip([*_LENGTHS, *_ENDED], answers, strict=False))
    is_paused, oldest = answers[len(counts) : len(counts) + 2]
    return QueueStatus(
        queue=queue,
        **counts,
        is_paused=bool(is_paused),
        is_limited=is_limited,
        waiting_since=waiting_since,
        failed_since=instant_of(float(oldest[1])) if oldest else None,
        other_workers=other_workers,
    )
