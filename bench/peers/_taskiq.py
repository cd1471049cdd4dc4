"""Worker and producer of taskiq, acknowledged by stream; `python -m bench.peers._taskiq enqueue` or `work`."""

import sys
from typing import Any

import uvloop
from taskiq.cli.worker.cmd import WorkerCMD
from taskiq_redis import RedisStreamBroker

from bench.peers import _task

broker = RedisStreamBroker(
    _task.REDIS_URL,
    consumer_id="0",  # also what was added before the first worker
    xread_block=1000,
    unacknowledged_lock_timeout=5,
    idle_timeout=_task.REDELIVERY * 1000 or 600_000,
)


async def _job(data: dict[str, Any]) -> None:
    await _task.run_async(data)


job = broker.register_task(_job, task_name="job")


async def _enqueue() -> None:
    await broker.startup()
    for data in _task.jobs():
        await job.kiq(data)
    await broker.shutdown()


def _work() -> None:
    own = ["--workers", "1", "--max-async-tasks", str(_task.CONCURRENCY), "--max-prefetch", "100"]
    rest = ["--ack-type", "when_executed", "--log-level", "WARNING", "--no-parse"]
    WorkerCMD().exec(["bench.peers._taskiq:broker", *own, *rest])


if __name__ == "__main__":
    uvloop.run(_enqueue()) if sys.argv[1] == "enqueue" else _work()
