"""Queues as tests see them: adding jobs, and looking at what became of them."""

from contextlib import closing
from typing import Any

from mauntic_jobs.bullmq import Queue
from mauntic_jobs.stores.bullmq.enqueue import QueueJob, add_jobs
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.epoch import milliseconds


def now_ms() -> int:
    return milliseconds(clock.now())


def add(queue: Queue, *ids: str, **data: Any) -> None:
    with closing(queue.connect()) as redis:
        add_jobs(redis, queue.prefix, [QueueJob(queue.name, each, "test", data) for each in ids], now_ms())


def ask(queue: Queue, *words: Any) -> Any:
    with closing(queue.connect()) as redis:
        return redis.command(*words)


def fields_of(queue: Queue, job: str) -> dict[str, str]:
    found = ask(queue, "HGETALL", f"{queue.key}:{job}")
    return {name.decode(): value.decode() for name, value in found.items()}


def ids_in(queue: Queue, name: str) -> list[str]:
    key = f"{queue.key}:{name}"
    found = ask(queue, "LRANGE", key, 0, -1) if name in ("wait", "active") else ask(queue, "ZRANGE", key, 0, -1)
    return [each.decode() for each in found]
