"""Background tasks that fail are reported at once and started again."""

import asyncio

import pytest

from mauntic_jobs.aio import background
from mauntic_jobs.aio.background import keep_running
from mauntic_jobs.delivery.consumer.consumer import Consumer
from mauntic_jobs.delivery.consumer.job_signal import JobSignal
from mauntic_jobs.delivery.consumer.queue_calls import QueueCalls
from mauntic_jobs.delivery.consumer.work import Work
from mauntic_jobs.delivery.job_outcome import Decision, Done
from mauntic_jobs.delivery.ledger.ledger import Ledger
from mauntic_jobs.delivery.stats import ChannelStats
from mauntic_jobs.stores.bullmq.enqueue import JOB_OPTIONS
from mauntic_jobs.stores.bullmq.job import ReceivedJob
from mauntic_jobs.stores.redis.async_link import RedisLink
from tests.delivery.sink import Sink
from tests.delivery.world import World


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_MIN_SECONDS", 0.01)


def test_what_fails_is_reported_and_started_again_until_it_returns() -> None:
    said: list[str] = []
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise KeyError("gone")

    asyncio.run(keep_running("the sweep", work, said.append))
    assert runs == 3
    assert [each.partition(" It")[0] for each in said] == ["the sweep failed: KeyError: 'gone'."] * 2


def test_what_is_cancelled_ends() -> None:
    async def run() -> None:
        task = asyncio.create_task(keep_running("x", asyncio.Event().wait, lambda _: None))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


@pytest.mark.parametrize(("owner", "name"), [(JobSignal, "listen"), (QueueCalls, "renew"), (QueueCalls, "recover")])
def test_a_consumer_goes_on_after_one_of_its_tasks_has_failed(
    world: World, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    fine, runs, told, again = getattr(owner, name), 0, list[tuple[str, str]](), asyncio.Event()

    async def fail_once(*arguments: object) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ValueError("a fault of ours")
        again.set()
        await fine(*arguments)

    monkeypatch.setattr(owner, name, fail_once)

    async def process(_job: ReceivedJob, _data: str) -> Decision:
        return Done("sent")

    async def run() -> None:
        redis, waiting = RedisLink(world.settings), RedisLink(world.settings)
        work = Work(world.base, 2, JOB_OPTIONS, process)
        stats = ChannelStats()
        consumer = Consumer(
            work, redis, waiting, stats, lambda what, error: told.append((what, str(error))), lambda *_: None
        )
        running = asyncio.create_task(consumer.run())
        await asyncio.wait_for(again.wait(), 10)
        await asyncio.to_thread(world.add, world.message())
        while not stats.done:  # noqa: ASYNC110 - no bell rings
            await asyncio.sleep(0.05)
        consumer.stop()
        await running
        await asyncio.gather(redis.close(), waiting.close())

    asyncio.run(asyncio.wait_for(run(), 30))
    assert any(what == world.base and "ValueError: a fault of ours" in text for what, text in told)


def test_a_process_goes_on_after_its_sweep_has_failed(
    world: World, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.provider(sink.host, sink.port)
    fine, runs = Ledger.end_leases, 0

    async def fail_once(ledger: Ledger) -> object:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise KeyError("organization_id")
        return await fine(ledger)

    monkeypatch.setattr(Ledger, "end_leases", fail_once)

    async def run() -> None:
        engine = world.engine(until_empty=False)
        running = asyncio.ensure_future(engine.run())
        while runs < 2:  # noqa: ASYNC110 - no bell rings
            await asyncio.sleep(0.05)
        engine.stop()
        await running

    asyncio.run(asyncio.wait_for(run(), 30))
    assert any("the sweep of leases failed: KeyError" in text for text in world.said)
