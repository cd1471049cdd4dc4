"""Consumes a queue with this project's consumer and does nothing with its jobs; the settings are noop.mjs's."""

import asyncio
import os

import uvloop

from mauntic_jobs.delivery.consumer.consumer import Consumer
from mauntic_jobs.delivery.consumer.work import Work
from mauntic_jobs.delivery.job_outcome import Decision, Done
from mauntic_jobs.delivery.stats import ChannelStats
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.bullmq.enqueue import JOB_OPTIONS
from mauntic_jobs.stores.bullmq.job import ReceivedJob
from mauntic_jobs.stores.redis.async_link import RedisLink


async def _nothing(_job: ReceivedJob, _data: str) -> Decision:
    return Done("sent")


def _tell(what: str, error: Exception | None) -> None:
    if error is not None:
        print(what, error)


async def _main() -> None:
    settings = Settings(redis_url=os.environ["REDIS_URL"])
    base = f"{os.environ['PREFIX']}:{os.environ['QUEUE']}"
    work = Work(base, int(os.environ["CONCURRENCY"]), JOB_OPTIONS, _nothing)
    redis, waiting = RedisLink(settings), RedisLink(settings)
    await Consumer(work, redis, waiting, ChannelStats(), _tell, print).run(until_empty=True)
    await asyncio.gather(redis.close(), waiting.close())


uvloop.run(_main())
