"""How many messages are at their providers at once, and how many are claimed beside them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from mauntic_jobs.delivery.ledger.ledger import Ledger
from mauntic_jobs.delivery.pipeline import conclusion, exchange_places
from mauntic_jobs.delivery.pipeline.exchange_places import ExchangePlaces
from mauntic_jobs.delivery.pipeline.fair_share import FairShare
from mauntic_jobs.delivery.sending.failover import Sending, Sent
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.support import run_on_loop

SLOW, FAST = uuid4(), uuid4()


class _Counts:
    """What is at a provider, and what is claimed and not recorded yet; now, and at most."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, during: Callable[[], Awaitable[None]]) -> None:
        self.sending = self.claimed = self.most_sending = self.most_claimed = 0
        send, claim, record = Sending.send, Ledger.claim, Ledger.record

        async def noted_send(own: Sending, organization: UUID, *given: Any) -> Sent:
            self.sending += 1
            self.most_sending = max(self.most_sending, self.sending)
            await during()
            sent = await send(own, organization, *given)
            self.sending -= 1
            return sent

        async def noted_claim(own: Ledger, asked: Any) -> Any:
            answer = await claim(own, asked)
            self.claimed += 1
            self.most_claimed = max(self.most_claimed, self.claimed)
            return answer

        async def noted_record(own: Ledger, result: Any) -> Any:
            self.claimed -= 1
            return await record(own, result)

        monkeypatch.setattr(Sending, "send", noted_send)
        monkeypatch.setattr(Ledger, "claim", noted_claim)
        monkeypatch.setattr(Ledger, "record", noted_record)


def _messages(world: World, sink: Sink, count: int) -> None:
    world.provider(sink.host, sink.port)
    world.add(*(world.message(f"d{n}") for n in range(count)))


@pytest.mark.parametrize(("concurrency", "ahead"), [(1, 1), (5, 5), (12, 8), (25, 0)])
def test_beside_those_at_a_provider_as_many_are_claimed_but_twenty_at_most_in_all(
    world: World, sink: Sink, monkeypatch: pytest.MonkeyPatch, concurrency: int, ahead: int
) -> None:
    counts = _Counts(monkeypatch, lambda: asyncio.sleep(0.02))
    _messages(world, sink, 200)
    world.deliver(concurrency={"email": concurrency})
    assert set(world.states().values()) == {"sent"}
    assert counts.most_sending == concurrency
    assert counts.most_claimed <= concurrency + ahead
    assert counts.most_claimed > concurrency or not ahead


def test_what_waits_for_a_slow_provider_is_not_claimed(
    world: World, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = _Counts(monkeypatch, lambda: asyncio.sleep(0.15))
    _messages(world, sink, 30)
    world.deliver()
    assert (counts.most_sending, counts.most_claimed) == (5, 5)


@pytest.mark.parametrize("reason", ["its process was stopped", "it was not sent soon enough"])
def test_what_was_claimed_and_not_sent_is_given_back_and_has_spent_no_attempt(
    world: World, sink: Sink, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    full, free = asyncio.Event(), asyncio.Event()
    begun = 0

    async def during() -> None:
        nonlocal begun
        begun += 1
        if begun == 65:
            full.set()
        if begun > 60:
            await free.wait()

    counts = _Counts(monkeypatch, during)
    _messages(world, sink, 200)

    async def run() -> None:
        engine = world.engine(drain_timeout=timedelta(seconds=0.5))
        running = asyncio.ensure_future(engine.run())
        await asyncio.wait_for(full.wait(), 30)
        await asyncio.sleep(0.5)
        assert counts.claimed == 10
        if reason.startswith("its process"):
            engine.stop()
            await asyncio.sleep(1)
        else:
            monkeypatch.setattr(conclusion, "_FRESH_SECONDS", -1.0)
            await asyncio.sleep(0.2)
            engine.stop()
        free.set()
        await asyncio.wait_for(running, 30)

    run_on_loop(run())
    given_back = [row for row in world.ledger() if reason in (row["reason"] or "")]
    assert len(given_back) >= 5
    assert {(row["state"], len(row["attempts"])) for row in given_back} == {("claimed", 0)}
    assert not world.jobs_in("active")
    assert all("atm" not in world.job(name) for name in world.jobs_in("wait"))
    monkeypatch.undo()
    world.hurry()
    world.deliver()
    assert set(world.states().values()) == {"sent"}
    assert len(sink.messages()) == 200


async def _enter(places: ExchangePlaces, stack: AsyncExitStack, names: Sequence[UUID]) -> list[UUID]:
    """Let messages of organizations ask for places, each for as long as the stack is open; return who has one."""
    entered: list[UUID] = []

    async def enter(organization: UUID) -> None:
        await places.enter(organization)
        stack.callback(places.leave)
        entered.append(organization)

    tasks = [asyncio.create_task(enter(each)) for each in names]
    stack.callback(lambda: [task.cancel() for task in tasks])
    await asyncio.sleep(0.1)
    return entered


@pytest.mark.parametrize(("others", "more"), [([FAST] * 3, [FAST, FAST]), ([], [])], ids=["with others", "alone"])
def test_places_beside_an_organization_in_trouble_are_for_the_others(
    monkeypatch: pytest.MonkeyPatch, others: list[UUID], more: list[UUID]
) -> None:
    monkeypatch.setattr(exchange_places, "_LOOK_SECONDS", 0.01)
    now = 1000.0

    async def run() -> None:
        nonlocal now
        fairness = FairShare(2, lambda: now)
        async with AsyncExitStack() as stack:
            for organization in [SLOW] * 4 + others:
                fairness.admit(organization)
            stack.enter_context(fairness.sending(SLOW))
            entered = await _enter(ExchangePlaces(fairness), stack, [SLOW] * 4 + others)
            assert entered == [SLOW, SLOW]
            now += 2
            await asyncio.sleep(0.1)
            assert entered == [SLOW, SLOW, *more]

    run_on_loop(run())
