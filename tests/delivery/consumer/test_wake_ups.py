"""Wake-ups of resting slots: none is lost, so that an organization alone has the whole concurrency."""

import asyncio
import heapq
from contextlib import AbstractContextManager
from uuid import uuid4

import pytest

from mauntic_jobs.delivery.consumer import job_signal as doorbell
from mauntic_jobs.delivery.consumer.consumer import Consumer
from mauntic_jobs.delivery.consumer.work import Work
from mauntic_jobs.delivery.job_outcome import Decision, Done
from mauntic_jobs.delivery.pipeline.fair_share import Exchange, FairShare
from mauntic_jobs.delivery.stats import ChannelStats
from mauntic_jobs.stores.bullmq.enqueue import JOB_OPTIONS
from mauntic_jobs.stores.bullmq.job import ReceivedJob
from mauntic_jobs.stores.redis.async_link import RedisLink
from tests.delivery.world import World

CONCURRENCY = 5


def test_a_slot_that_is_not_needed_any_more_passes_its_wake_up_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The consumer must not be helped by its look every few seconds.
    monkeypatch.setattr(doorbell, "_LONGEST_WAIT_SECONDS", 1000.0)
    extra, taken = CONCURRENCY, asyncio.Event()

    async def process(_job: ReceivedJob, _data: str) -> Decision:
        taken.set()
        return Done("sent")

    async def run() -> None:
        nonlocal extra
        redis, waiting = RedisLink(world.settings), RedisLink(world.settings)
        work = Work(world.base, CONCURRENCY, JOB_OPTIONS, process, lambda: extra)
        consumer = Consumer(work, redis, waiting, ChannelStats(), lambda *_: None, lambda *_: None)
        running = asyncio.create_task(consumer.run())
        await asyncio.sleep(1)  # all slots, ten of them, have found nothing
        extra = 0
        await asyncio.sleep(1)  # the next look has narrowed the concurrency to five
        await asyncio.to_thread(world.add, world.message())
        await asyncio.wait_for(taken.wait(), 10)
        consumer.stop()
        await running
        await asyncio.gather(redis.close(), waiting.close())

    asyncio.run(run())


def _delivered_alone(seconds: float, duration: float) -> tuple[int, float]:
    """Simulate one organization with a long queue; return what was delivered, and what the concurrency allows."""
    now = 0.0
    fairness, organization = FairShare(CONCURRENCY, lambda: now), uuid4()
    due, busy, extra = [0.0] * 2000, list[tuple[float, AbstractContextManager[Exchange]]](), 0
    delivered, ticks = 0, 0
    while now < duration:
        for end in [each for each in busy if each[0] <= now]:
            busy.remove(end)
            end[1].__exit__(None, None, None)
            fairness.leave(organization)
            delivered += 1
        if ticks % 25 == 0:
            extra = fairness.aside()
        for _ in range(CONCURRENCY + extra - len(busy)):
            if due[0] > now:
                break
            heapq.heappop(due)
            wait = fairness.admit(organization)
            if wait:
                heapq.heappush(due, now + wait)
            else:
                exchange = fairness.sending(organization)
                exchange.__enter__()
                busy.append((now + seconds, exchange))
        ticks += 1
        now = ticks / 100
    return delivered, CONCURRENCY * duration / seconds


@pytest.mark.parametrize("seconds", [0.5, 1.2, 1.5, 3.0, 8.0])
def test_an_organization_alone_uses_the_whole_concurrency_however_slow_it_is(seconds: float) -> None:
    delivered, possible = _delivered_alone(seconds, 120.0)
    assert delivered >= 0.93 * possible
