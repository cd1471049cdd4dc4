"""Worker and producer of Celery; `python -m bench.peers._celery enqueue` or `work`, with POOL prefork or gevent."""

import os
import sys
from typing import Any

from bench.peers import _task

_POOL = os.environ.get("POOL", "prefork")
if _POOL == "gevent" and sys.argv[1] == "work":
    from gevent import monkey

    monkey.patch_all()

from celery import Celery  # noqa: E402 - after what gevent patches

app = Celery("bench", broker=_task.REDIS_URL)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=64,  # for short jobs its guide advises 50 to 150
    worker_send_task_events=False,
    broker_transport_options={"visibility_timeout": _task.REDELIVERY or 3600},
    broker_connection_retry_on_startup=True,
)


def _job(data: dict[str, Any]) -> None:
    _task.run(data)


job = app.task(_job, name="job")


def _enqueue() -> None:
    with app.producer_or_acquire() as producer:
        for data in _task.jobs():
            job.apply_async((data,), producer=producer)


def _work() -> None:
    quiet = ["--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    app.worker_main(["worker", "--pool", _POOL, "--concurrency", str(_task.CONCURRENCY), *quiet])


if __name__ == "__main__":
    _enqueue() if sys.argv[1] == "enqueue" else _work()
