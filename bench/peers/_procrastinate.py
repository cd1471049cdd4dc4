"""Worker and producer of procrastinate; `python -m bench.peers._procrastinate enqueue`, `work` or `claim`.

`claim` takes jobs and finishes them by the statements of its worker, without the worker and without work. It says when
it is connected, begins at a line on stdin, and prints when it began and ended.
"""

import asyncio
import sys
import time
from typing import Any

import uvloop
from procrastinate import App, PsycopgConnector
from procrastinate.jobs import Status

from bench.peers import _task

_MOST_CONNECTIONS = 20

app = App(
    connector=PsycopgConnector(
        conninfo=_task.DATABASE_URL, min_size=4, max_size=min(_task.CONCURRENCY + 2, _MOST_CONNECTIONS)
    )
)


async def _job(data: dict[str, Any]) -> None:
    await _task.run_async(data)


job = app.task(_job, name="job")


async def _enqueue() -> None:
    async with app.open_async():
        if not await app.check_connection_async():
            await app.schema_manager.apply_schema_async()
        await job.batch_defer_async(*({"data": data} for data in _task.jobs()))


async def _work() -> None:
    async with app.open_async():
        await app.run_worker_async(concurrency=_task.CONCURRENCY, delete_jobs="successful")


async def _claim() -> None:
    async with app.open_async():
        worker = await app.job_manager.register_worker()
        await asyncio.gather(*(app.check_connection_async() for _ in range(_task.CONCURRENCY)))
        print("ready", flush=True)
        sys.stdin.readline()
        began = time.time()
        await asyncio.gather(*(_claim_each(worker) for _ in range(_task.CONCURRENCY)))
        print(began, time.time(), flush=True)


async def _claim_each(worker: int) -> None:
    while (job := await app.job_manager.fetch_job(queues=None, worker_id=worker)) is not None:
        await app.job_manager.finish_job(job, status=Status.SUCCEEDED, delete_job=True)


_ACTS = {"enqueue": _enqueue, "work": _work, "claim": _claim}

if __name__ == "__main__":
    uvloop.run(_ACTS[sys.argv[1]]())
