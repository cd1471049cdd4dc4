"""Worker and producer of arq; `python -m bench.peers._arq enqueue` or `work`."""

import asyncio
import sys
from typing import Any

import uvloop
from arq.connections import RedisSettings, create_pool
from arq.worker import Worker, func

from bench.peers import _task

_SETTINGS = RedisSettings.from_dsn(_task.REDIS_URL)


async def job(_context: dict[str, Any], data: dict[str, Any]) -> None:
    """Do the work."""
    await _task.run_async(data)


async def _enqueue() -> None:
    pool = await create_pool(_SETTINGS)
    for data in _task.jobs():
        await pool.enqueue_job("job", data)
    await pool.aclose()


def _work() -> None:
    # By default it looks for jobs twice a second only, for as many as a hundred at once.
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    Worker(
        functions=[func(job, name="job")],
        redis_settings=_SETTINGS,
        max_jobs=_task.CONCURRENCY,
        poll_delay=0.01,
        queue_read_limit=1000,
        keep_result=0,
        log_results=False,
        job_timeout=(_task.REDELIVERY or 310) - 10 or 1,
    ).run()


if __name__ == "__main__":
    uvloop.run(_enqueue()) if sys.argv[1] == "enqueue" else _work()
