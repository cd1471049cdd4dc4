"""Jobs that were put aside for a slow provider come back as soon as their organization has a place for them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import cast
from uuid import UUID, uuid4

import pytest

from mauntic_jobs.delivery.consumer import consumer as consumers
from mauntic_jobs.delivery.consumer.concurrency import ConcurrencyLimiter
from mauntic_jobs.delivery.consumer.consumer import Consumer
from mauntic_jobs.delivery.consumer.queue_calls import QueueCalls, now_milliseconds
from mauntic_jobs.delivery.consumer.settlement import acknowledgement
from mauntic_jobs.delivery.consumer.work import Work
from mauntic_jobs.delivery.job_outcome import Decision, Done, PutAside
from mauntic_jobs.delivery.pipeline.fair_share import FairShare
from mauntic_jobs.delivery.stats import ChannelStats
from mauntic_jobs.stores.bullmq import commands as scripts
from mauntic_jobs.stores.bullmq.enqueue import JOB_OPTIONS
from mauntic_jobs.stores.bullmq.job import ReceivedJob
from mauntic_jobs.stores.redis.async_link import RedisLink
from mauntic_jobs.timekeeping import clock
from tests.delivery.virtual_queue import VirtualLink, VirtualLoop, VirtualQueue
from tests.delivery.world import World
from tests.support import run_on_loop

CONCURRENCY = 5
# Of the jobs, by the letter that their ids begin with.
ORGANIZATIONS = {letter: uuid4() for letter in "ab"}


@dataclass
class Channel:
    """Deliver a queue in virtual time; `seconds` is how long a message of an organization takes, at a time."""

    loop: VirtualLoop
    seconds: Callable[[str, float], float]
    processes: int = 1
    sent: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.queue = VirtualQueue(self.loop, Random(0))
        self._consumers = [self._consumer() for _ in range(self.processes)]

    def _consumer(self) -> Consumer:
        fairness = FairShare(CONCURRENCY, self.loop.time)
        work = Work(
            *("bull:q", CONCURRENCY, JOB_OPTIONS, partial(self._process, fairness)),
            *(fairness.aside, fairness.put_aside, fairness.returning),
        )
        link, listening = (cast("RedisLink", VirtualLink(self.queue)) for _ in range(2))
        return Consumer(work, link, listening, ChannelStats(), lambda *_: None, lambda *_: None)

    async def _process(self, fairness: FairShare, job: ReceivedJob, _data: str) -> Decision:
        organization: UUID = ORGANIZATIONS[job.id[0]]
        wait = fairness.admit(organization)
        if wait:
            return PutAside(organization, now_milliseconds() + int(wait * 1000))
        try:
            with fairness.sending(organization):
                await asyncio.sleep(self.seconds(job.id[0], self.loop.time()))
        finally:
            fairness.leave(organization)
        self.sent[job.id] = self.loop.time()
        return Done("sent")

    async def deliver(self, jobs: list[str]) -> None:
        for job in jobs:
            self.queue.add(job)
        running = [asyncio.ensure_future(each.run()) for each in self._consumers]
        while len(self.sent) < len(jobs) and self.loop.time() < 1000:  # noqa: ASYNC110 - no bell rings
            await asyncio.sleep(0.05)
        for consumer in self._consumers:
            consumer.stop()
        await asyncio.gather(*running)
        # The last commands, which nobody waits for, are answered.
        await asyncio.sleep(1.0)


def _delivered(jobs: list[str], seconds: Callable[[str, float], float], processes: int = 1) -> dict[str, float]:
    """Return when each job was sent."""
    loop = VirtualLoop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now", loop.now)
        patch.setattr(consumers, "ConcurrencyLimiter", partial(ConcurrencyLimiter, clock=loop.time))
        try:
            channel = Channel(loop, seconds, processes)
            loop.run_until_complete(channel.deliver(jobs))
        finally:
            loop.close()
    assert len(channel.sent) == len(jobs)
    return channel.sent


def test_an_organization_alone_loses_no_time_however_slow_its_provider_is() -> None:
    sent = _delivered([f"a{number}" for number in range(60)], lambda *_: 1.5)
    # 18 s are possible.
    assert max(sent.values()) <= 18.5


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_what_was_put_aside_comes_back_at_once_when_the_provider_is_well(processes: int) -> None:
    jobs = [f"a{number}" for number in range(3000)]
    sent = _delivered(jobs, lambda _, now: 3.0 if 2.0 < now < 22.0 else 0.02, processes)
    slow = sum(at < 22.0 for at in sent.values())
    assert slow < 2000
    # The exchanges under way end up to 3 s later. Then 250 a second are possible for each process.
    assert max(sent.values()) <= 22.0 + 3.0 + 1.5 * (3000 - slow) / (250 * processes) + 2.0


def test_what_was_put_aside_comes_back_at_once_when_nobody_else_waits() -> None:
    # The fast organization's messages are sent, and a minute later it is not counted as one that waits.
    jobs = [*(f"a{number}" for number in range(300)), *(f"b{number}" for number in range(300))]
    sent = _delivered(jobs, lambda organization, _: 3.0 if organization == "a" else 0.02)
    fast = max(at for job, at in sent.items() if job[0] == "b")
    assert fast < 30.0
    after = sum(at > fast + 62.0 for at in sent.values())
    assert after > 200
    assert max(sent.values()) <= fast + 62.0 + 1.1 * after * 3.0 / CONCURRENCY


def test_only_a_job_that_is_still_put_aside_is_called_back(world: World) -> None:
    """By BullMQ's own scripts: one that has been delayed anew meanwhile, for its backoff say, keeps its time."""
    until = now_milliseconds() + 60_000
    world.add(world.message("d1"), world.message("d2"), ids=["j1", "j2"])

    async def run() -> None:
        link = RedisLink(world.settings)
        calls = QueueCalls(world.base, link, lambda *_: None)
        for _ in range(2):
            taken = scripts.taken(await calls.run(scripts.take(world.base, "token", now_milliseconds())))
            assert taken is not None
            put_aside = acknowledgement(
                world.base, "token", taken.id, None, PutAside(world.organization, until), more=False
            )
            assert await calls.settle(taken.id, "token", put_aside) == 0
        assert world.jobs_in("delayed") == ["j1", "j2"]
        await calls.promote([("j1", until + 1), ("j2", until), ("gone", until)])
        await link.close()

    run_on_loop(run())
    assert (world.jobs_in("delayed"), world.jobs_in("wait")) == (["j1"], ["j2"])
    assert "failedReason" not in world.job("j2")
