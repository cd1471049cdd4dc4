"""Worker and producer of SAQ; `python -m bench.peers._saq enqueue` or `work`."""

import sys
from typing import Any

import uvloop
from saq import Job, Queue, Worker

from bench.peers import _task


async def job(_context: Any, *, data: dict[str, Any]) -> None:
    """Do the work."""
    await _task.run_async(data)


async def _enqueue() -> None:
    queue = Queue.from_url(_task.REDIS_URL)
    await queue.connect()
    for data in _task.jobs():
        # By default a job is tried once, also if its worker was killed, and its result is kept.
        await queue.enqueue(Job("job", kwargs={"data": data}, retries=4, ttl=-1, timeout=_task.REDELIVERY or 10))
    await queue.disconnect()


async def _work() -> None:
    queue = Queue.from_url(_task.REDIS_URL)
    await queue.connect()
    await Worker(
        queue,
        functions=[("job", job)],
        concurrency=_task.CONCURRENCY,
        timers={"sweep": _task.REDELIVERY or 60},
    ).start()
    await queue.disconnect()


if __name__ == "__main__":
    uvloop.run(_enqueue() if sys.argv[1] == "enqueue" else _work())
