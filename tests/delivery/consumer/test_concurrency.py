"""How many jobs are worked on at once, and how many are held ready behind them."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from mauntic_jobs.delivery.consumer.concurrency import ConcurrencyLimiter
from mauntic_jobs.delivery.consumer.consumer import Consumer
from mauntic_jobs.delivery.consumer.work import Work
from mauntic_jobs.delivery.job_outcome import Decision, Done
from mauntic_jobs.delivery.stats import ChannelStats
from mauntic_jobs.stores.bullmq.enqueue import JOB_OPTIONS
from mauntic_jobs.stores.bullmq.job import ReceivedJob
from mauntic_jobs.stores.redis.async_link import RedisLink
from tests.delivery.world import World


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def _through(gate: ConcurrencyLimiter, name: str, inside: list[str], leave: asyncio.Event) -> None:
    entered = await gate.enter()
    inside.append(name)
    try:
        await leave.wait()
    finally:
        gate.leave(entered)


def test_so_many_are_inside_and_the_others_come_in_as_they_came() -> None:
    async def run() -> None:
        gate, inside = ConcurrencyLimiter(2), list[str]()
        leaves = {name: asyncio.Event() for name in "abcde"}
        tasks = [asyncio.create_task(_through(gate, name, inside, leave)) for name, leave in leaves.items()]
        await _turns(3)
        assert inside == ["a", "b"]
        assert not gate.is_free
        leaves["b"].set()
        await _turns(3)
        assert inside == ["a", "b", "c"]
        gate.widen(1)
        await _turns(3)
        assert inside == ["a", "b", "c", "d"]
        gate.widen(0)
        leaves["a"].set()
        await _turns(3)
        assert inside == ["a", "b", "c", "d"]
        gate.give_way()
        await _turns(3)
        assert inside == ["a", "b", "c", "d", "e"]
        for leave in leaves.values():
            leave.set()
        await asyncio.gather(*tasks)

    asyncio.run(run())


def test_jobs_are_held_ready_only_while_they_are_quickly_done() -> None:
    now = [1000.0]

    async def run(own: ConcurrencyLimiter, seconds: float, times: int) -> int:
        for _ in range(times):
            entered = await own.enter()
            now[0] += seconds
            own.leave(entered)
        return own.most

    for places, ready in ((1, 1), (5, 3), (10, 5)):
        own = ConcurrencyLimiter(places, clock=lambda: now[0])
        assert own.most == places
        assert asyncio.run(run(own, 0.005, 30)) == places + ready
        assert asyncio.run(run(own, 0.3, 30)) == places


def test_more_are_let_in_ahead_while_a_place_is_quickly_free_again() -> None:
    now = [1000.0]

    async def run(own: ConcurrencyLimiter, at_once: int, seconds: float) -> int:
        entered = deque([await asyncio.wait_for(own.enter(), 1) for _ in range(at_once)])
        for _ in range(100):
            now[0] += seconds / at_once
            own.leave(entered.popleft())
            entered.append(await asyncio.wait_for(own.enter(), 1))
        most = own.most
        for each in entered:
            own.leave(each)
        return most

    own = ConcurrencyLimiter(10, 10, clock=lambda: now[0])
    assert own.most == 10
    assert asyncio.run(run(own, 10, 0.0)) == 25
    # Of twenty, the second ten have waited for the places of the first ten.
    assert asyncio.run(run(own, 20, 0.18)) == 25
    assert asyncio.run(run(own, 10, 0.11)) == 10


async def _nothing(_consumer: Consumer) -> None:
    """Do nothing meanwhile."""


def _consume(
    world: World,
    process: Callable[[ReceivedJob, str], Awaitable[Decision]],
    meanwhile: Callable[[Consumer], Awaitable[None]] = _nothing,
) -> None:
    async def run() -> None:
        redis, waiting = RedisLink(world.settings), RedisLink(world.settings)
        work = Work(world.base, 4, JOB_OPTIONS, process)
        consumer = Consumer(work, redis, waiting, ChannelStats(), lambda *_: None, lambda *_: None)
        running = asyncio.wait_for(consumer.run(until_empty=True), 30)
        await asyncio.gather(running, meanwhile(consumer))
        await asyncio.gather(redis.close(), waiting.close())

    asyncio.run(run())


def test_jobs_are_held_ready_and_not_worked_on(world: World) -> None:
    world.add(*(world.message(f"d{n}") for n in range(300)))
    inside, most, held = 0, 0, 0

    async def process(_job: ReceivedJob, _data: str) -> Decision:
        nonlocal inside, most, held
        inside += 1
        most, held = max(most, inside), max(held, len(world.jobs_in("active")))
        await asyncio.sleep(0.005)
        inside -= 1
        return Done("sent")

    _consume(world, process)
    assert len(world.jobs_in("completed")) == 300
    assert (most, held) == (4, 6)


def test_what_is_held_ready_is_given_back_at_once_when_it_stops(world: World) -> None:
    world.add(*(world.message(f"d{n}") for n in range(300)))
    busy, begun, free = 0, asyncio.Event(), asyncio.Event()
    held: list[int] = []

    async def process(_job: ReceivedJob, _data: str) -> Decision:
        nonlocal busy
        if len(world.jobs_in("completed")) > 200:
            busy += 1
            if busy == 4:
                begun.set()
            await free.wait()
        return Done("sent")

    async def stop(consumer: Consumer) -> None:
        await begun.wait()
        await asyncio.sleep(0.5)
        held.append(len(world.jobs_in("active")))
        consumer.stop()
        await asyncio.sleep(0.5)
        held.append(len(world.jobs_in("active")))
        free.set()

    _consume(world, process, stop)
    assert held == [6, 4]
    assert world.jobs_in("active") == []
    assert len(world.jobs_in("completed")) + len(world.jobs_in("wait")) == 300
    assert all("atm" not in world.job(name) for name in world.jobs_in("wait"))
