"""A job that is due and a slot that is free never wait for each other, whatever happens in whatever order."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from mauntic_jobs.delivery.consumer import consumer as consumers, job_signal as doorbell
from mauntic_jobs.delivery.consumer.concurrency import ConcurrencyLimiter
from mauntic_jobs.delivery.consumer.consumer import Consumer
from mauntic_jobs.delivery.consumer.work import Work
from mauntic_jobs.delivery.job_outcome import Decision, Defer, Done
from mauntic_jobs.delivery.stats import ChannelStats
from mauntic_jobs.stores.bullmq.enqueue import JOB_OPTIONS
from mauntic_jobs.stores.bullmq.job import ReceivedJob
from mauntic_jobs.stores.redis.async_link import RedisLink
from mauntic_jobs.timekeeping import clock
from tests.delivery.virtual_queue import VirtualLink, VirtualLoop, VirtualQueue

CONCURRENCY = 2
# The consumer looks four times a second how many slots there are to be; a few commands are under way as well.
LONGEST_WAIT_SECONDS = 0.35
LOOK_SECONDS = 0.01


@dataclass
class Program:
    """One delivering process: its consumer, and how many jobs it works on."""

    queue: VirtualQueue
    random: Random
    beside: int = 0
    is_held: bool = False
    is_stopped: bool = False
    busy: int = 0
    deferred: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        aside, is_held = (lambda: self.beside), (lambda: self.is_held)
        work = Work("bull:q", CONCURRENCY, JOB_OPTIONS, self._process, aside, is_held=is_held)
        link, listening = (cast("RedisLink", VirtualLink(self.queue)) for _ in range(2))
        self.consumer = Consumer(work, link, listening, ChannelStats(), lambda *_: None, lambda *_: None)

    @property
    def is_free(self) -> bool:
        """Whether it has a place for a job, and may take one."""
        return not self.is_held and not self.is_stopped and self.busy < CONCURRENCY + self.beside

    def stop(self) -> None:
        self.is_stopped = True
        self.consumer.stop()

    async def _process(self, job: ReceivedJob, _data: str) -> Decision:
        self.busy += 1
        try:
            await asyncio.sleep(self.random.choice((0.0, 0.005, 0.05, 0.5, 8.0)))
        finally:
            self.busy -= 1
        self.deferred[job.id] += 1
        if self.deferred[job.id] == 1 and self.random.random() < 0.2:
            return Defer(self.random.choice((0.5, 3.0)), "its turn comes later")
        return Done("sent")


Step = tuple[float, tuple[str, Any]]

_programs = st.integers(0, 1)
_steps = st.lists(
    st.tuples(
        st.sampled_from((0.0, 0.001, 0.1, 0.3, 1.0, 4.0, 9.0)),
        st.one_of(
            st.tuples(st.just("add"), st.integers(1, 6)),
            st.tuples(st.just("delay"), st.sampled_from((0.02, 0.7, 2.0, 7.0))),
            st.tuples(st.just("widen"), st.tuples(_programs, st.integers(0, 2))),
            st.tuples(st.just("hold"), st.tuples(_programs, st.booleans())),
            st.tuples(st.just("limit"), st.sampled_from((None, (1, 0.3), (3, 1.0), (2, 6.0)))),
            st.tuples(st.just("stop"), st.just(1)),
        ),
    ),
    min_size=1,
    max_size=25,
)


class Scenario:
    """Two programs on one queue; `longest` is how long a due job and a free slot have waited for each other at most."""

    def __init__(self, loop: VirtualLoop, seed: int) -> None:
        random = Random(seed)
        self.queue = VirtualQueue(loop, random)
        self.programs = [Program(self.queue, random), Program(self.queue, random)]
        self.added = 0
        self.longest = 0.0
        self._loop = loop
        self._since: float | None = None

    async def play(self, steps: list[Step]) -> None:
        running = [asyncio.ensure_future(each.consumer.run()) for each in self.programs]
        for seconds, (what, value) in steps:
            await self._look(seconds)
            self._do(what, value)
        self.queue.most_each = None
        for program in self.programs:
            program.is_held = False
        while len(self.queue.done) < self.added and self.longest < 60:
            await self._look(1.0)
        for program in self.programs:
            program.stop()
        await asyncio.gather(*running)
        # The last commands, which nobody waits for, are answered.
        await asyncio.sleep(1.0)

    async def _look(self, seconds: float) -> None:
        end = self._loop.time() + seconds
        while True:
            now = self._loop.time()
            idle = self.queue.due > 0 and any(each.is_free for each in self.programs)
            self._since = (now if self._since is None else self._since) if idle else None
            self.longest = max(self.longest, now - self._since if self._since is not None else 0.0)
            if now >= end:
                return
            await asyncio.sleep(LOOK_SECONDS)

    def _do(self, what: str, value: Any) -> None:
        match what:
            case "add":
                for _ in range(value):
                    self._add(0.0)
            case "delay":
                self._add(value)
            case "widen":
                self.programs[value[0]].beside = value[1]
            case "hold":
                self.programs[value[0]].is_held = value[1]
            case "limit":
                self.queue.most_each = value
            case "stop":
                self.programs[value].stop()

    def _add(self, delay: float) -> None:
        self.queue.add(f"j{self.added}", delay)
        self.added += 1


def _simulate(steps: list[Step], seed: int) -> Scenario:
    loop = VirtualLoop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now", loop.now)
        patch.setattr(consumers, "ConcurrencyLimiter", partial(ConcurrencyLimiter, clock=loop.time))
        # The look every few seconds must not help.
        patch.setattr(doorbell, "_LONGEST_WAIT_SECONDS", 100_000.0)
        try:
            scenario = Scenario(loop, seed)
            loop.run_until_complete(scenario.play(steps))
        finally:
            loop.close()
    return scenario


# Both have more slots than they need when a job comes.
NARROWED: list[Step] = [
    *((0.0, ("widen", (program, 2))) for program in (0, 1)),
    *((1.0, ("widen", (program, 0))) for program in (0, 1)),
    (1.0, ("add", 1)),
    (9.0, ("add", 1)),
]


@pytest.mark.slow
@example(NARROWED, 0)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(_steps, st.integers(0, 2**16))
def test_a_due_job_and_a_free_slot_do_not_wait_for_each_other(steps: list[Step], seed: int) -> None:
    scenario = _simulate(steps, seed)
    assert scenario.longest <= LONGEST_WAIT_SECONDS
    assert len(scenario.queue.done) == scenario.added
