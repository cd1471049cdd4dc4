"""Worker and producer of procrastinate; `python -m bench.peers._procrastinate enqueue` or `work`."""

import sys
from typing import Any

import uvloop
from procrastinate import App, PsycopgConnector

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


if __name__ == "__main__":
    uvloop.run(_enqueue() if sys.argv[1] == "enqueue" else _work())
