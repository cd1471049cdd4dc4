"""Worker and producer of dramatiq; `python -m bench.peers._dramatiq enqueue` or `work`."""

import sys
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.cli import main, make_argument_parser

from bench.peers import _task

dramatiq.set_broker(RedisBroker(url=_task.REDIS_URL, heartbeat_timeout=_task.REDELIVERY * 1000 or 60_000))


def _job(data: dict[str, Any]) -> None:
    _task.run(data)


job = dramatiq.actor(_job, actor_name="job")


def _enqueue() -> None:
    for data in _task.jobs():
        job.send(data)


def _work() -> None:
    own = ["--processes", "1", "--threads", str(_task.CONCURRENCY), "--worker-shutdown-timeout", "2000"]
    main(make_argument_parser().parse_args(["bench.peers._dramatiq", *own]))


if __name__ == "__main__":
    _enqueue() if sys.argv[1] == "enqueue" else _work()
