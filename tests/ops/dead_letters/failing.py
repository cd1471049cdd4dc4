"""Jobs that fail, on real queues, by the scripts that workers use."""

from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

from typer.testing import CliRunner, Result

from mauntic_jobs.stores.bullmq.consumer import QueueConsumer
from mauntic_jobs.stores.bullmq.enqueue import QueueJob, add_jobs
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping import clock
from tests.delivery.world import World
from tests.support import APP

EMAIL, STEPS = "delivery:send-email", "journey:execute-step"


def fail_jobs(
    world: World,
    jobs: Sequence[tuple[str, dict[str, Any], str]],
    *,
    queue: str = EMAIL,
    name: str = "test",
    at: datetime | None = None,
) -> None:
    """Add jobs, given as id, data and error, and have a consumer fail each for good."""
    now = milliseconds(at or clock.now())
    with closing(open_redis(world.settings)) as redis:
        add_jobs(redis, world.settings.queue_prefix, [QueueJob(queue, job, name, data) for job, data, _ in jobs], now)
        consumer = QueueConsumer(redis, f"{world.settings.queue_prefix}:{queue}")
        for job, _, error in jobs:
            taken = consumer.take(now)
            assert taken is not None
            assert taken.id == job
            assert consumer.finish(job, now, failed=True, value=error, keep={"count": -1}, attempts=4) == 0


def milliseconds(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)


def hours_ago(hours: float) -> datetime:
    return clock.now() - timedelta(hours=hours)


def ids(world: World, state: str, queue: str = EMAIL) -> list[str]:
    """Return the ids of the jobs in a state."""
    key = f"{world.settings.queue_prefix}:{queue}:{state}"
    words = ("LRANGE", key, 0, -1) if state in ("wait", "active") else ("ZRANGE", key, 0, -1)
    return [each.decode() for each in world.ask(*words)]


def program(world: World, *arguments: str, **extra: str) -> Result:
    """Run the program in this process, off a terminal."""
    settings = world.settings
    assert settings.database_url
    assert settings.redis_url
    variables = {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "MAUNTIC_QUEUE_PREFIX": settings.queue_prefix,
        "MAUNTIC_RETRY_DELAY": "0s",
        "COLUMNS": "200",
        **extra,
    }
    return CliRunner().invoke(APP, [*arguments], prog_name="mauntic-jobs", env=variables)


Opens = Callable[[], Any]
