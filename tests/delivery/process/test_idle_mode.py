"""Idle mode: a process with nothing to deliver asks Postgres nothing, and misses no decision that is made meanwhile."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from mauntic_jobs.aio import idle_mode
from mauntic_jobs.aio.idle_mode import IdleMode
from mauntic_jobs.delivery.admission import restrictions
from mauntic_jobs.delivery.ledger import ledger
from mauntic_jobs.delivery.process import clock_watch, redis_watch, worker_process
from mauntic_jobs.delivery.process.worker_process import WorkerProcess
from mauntic_jobs.delivery.sending import pauses
from mauntic_jobs.delivery.sending.providers import pool
from mauntic_jobs.errors import UnavailableError
from mauntic_jobs.ops.restrictions import RestrictedScope, end_restrictions, restrict
from mauntic_jobs.recovery.marker import read_marker
from mauntic_jobs.timekeeping import clock
from tests.delivery.ledger_calls import claim, event, record
from tests.delivery.sink import Sink, running_sink
from tests.delivery.world import World
from tests.support import run_on_loop
from tests.wire_counter import Asked, counted

_IDLE_AFTER = idle_mode.IDLE_AFTER_SECONDS
PATIENCE = 30
HOURLY = 1 / 3600


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everything that asks from time to time do so twenty times as often, and the idle mode begin soon."""
    monkeypatch.setattr(idle_mode, "IDLE_AFTER_SECONDS", 0.5)
    for module, name in (
        (restrictions, "LOOK_SECONDS"),
        (pauses, "LOOK_SECONDS"),
        (worker_process, "_MEASURE_SECONDS"),
        (worker_process, "_SWEEP_SECONDS"),
        (clock_watch, "_PAUSE_SECONDS"),
        (redis_watch, "_PAUSE_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 0.1)


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait until a condition holds, whose look at a store does not hold up the event loop."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - no bell rings
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(what) from None


@asynccontextmanager
async def running(world: World, processes: int = 1, **changes: Any) -> AsyncIterator[list[WorkerProcess]]:
    """Run delivering processes, and yield them when they are idle."""
    engines = [world.engine(until_empty=False, **changes) for _ in range(processes)]
    tasks = [asyncio.ensure_future(each.run()) for each in engines]
    try:
        await until(lambda: all(each.is_idle for each in engines), "they never became idle")
        yield engines
    finally:
        for engine in engines:
            engine.stop()
        await asyncio.gather(*tasks)


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def play_scene() -> None:
        await scene()

    run_on_loop(asyncio.wait_for(play_scene(), 2 * PATIENCE))


def through_counter(world: World, asked: Asked) -> None:
    world.settings = world.settings.model_copy(update={"database_url": SecretStr(asked.url)})


def url_of(world: World) -> str:
    assert world.settings.database_url
    return world.settings.database_url.get_secret_value()


class _Rounds:
    """Counts how often the tasks of a process that ask Redis alone have come round."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clocks = self.marks = 0
        compared, kept = clock_watch.ClockWatch.look, redis_watch._Watch.is_kept

        async def look(watch: clock_watch.ClockWatch, *, redis_alone: bool = False) -> None:
            await compared(watch, redis_alone=redis_alone)
            self.clocks += 1

        def is_kept(watch: redis_watch._Watch) -> bool:
            self.marks += 1
            return kept(watch)

        monkeypatch.setattr(clock_watch.ClockWatch, "look", look)
        monkeypatch.setattr(redis_watch._Watch, "is_kept", is_kept)

    async def pass_by(self, count: int) -> None:
        wanted = self.clocks + count, self.marks + count
        await until(lambda: self.clocks >= wanted[0] and self.marks >= wanted[1], "the process does not look around")


async def settled(asked: Asked, rounds: _Rounds, processes: int) -> tuple[int, int]:
    """Return the counts once what was under way when the last process became idle has ended."""
    async with asyncio.timeout(PATIENCE):
        while True:
            before = asked.statements, asked.connections
            await rounds.pass_by(3 * processes)
            if before == (asked.statements, asked.connections):
                return before


@pytest.mark.parametrize("processes", [1, 2])
def test_an_idle_process_asks_postgres_nothing_and_goes_on_at_once(
    world: World, sink: Sink, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    world.provider(sink.host, sink.port)
    rounds = _Rounds(monkeypatch)

    def is_sent(count: int) -> bool:
        return len(sink.messages()) == count

    async def scene() -> None:
        async with running(world, processes) as engines:
            for number in range(3):
                before = await settled(asked, rounds, processes)
                await rounds.pass_by(10 * processes)
                assert (asked.statements, asked.connections) == before
                await asyncio.to_thread(world.add, world.message(f"d{number}"))
                await until(partial(is_sent, number + 1), "it was not sent")
                await until(lambda: all(each.is_idle for each in engines), "it does not become idle again")
            before = await settled(asked, rounds, processes)
        # One that stops wakes the others: it may have been woken for a job.
        assert processes > 1 or (asked.statements, asked.connections) == before

    with counted(url_of(world)) as asked:
        through_counter(world, asked)
        play(scene)
    assert set(world.states().values()) == {"sent"}
    assert world.said == []


def scope_of(world: World, provider: UUID, name: str) -> RestrictedScope:
    own = world.organization
    return {
        "all": RestrictedScope(),
        "channel": RestrictedScope(channel="email"),
        "organization": RestrictedScope(own),
        "campaign": RestrictedScope(own, campaign="spring"),
        "provider": RestrictedScope(own, "email", provider),
    }[name]


def set_restriction(world: World, scope: RestrictedScope, rate: float = 0.0) -> None:
    restrict(world.session, scope, rate=rate, why="test", by="test", now=clock.now(), until=None)


def end_all(world: World) -> None:
    end_restrictions(world.session, None, "test", clock.now())


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("name", ["all", "channel", "organization", "campaign", "provider"])
def test_a_pause_that_is_made_meanwhile_holds_for_the_first_message_and_its_end_is_noticed(
    world: World, sink: Sink, name: str, processes: int
) -> None:
    provider = world.provider(sink.host, sink.port)

    async def scene() -> None:
        async with running(world, processes) as engines:
            set_restriction(world, scope_of(world, provider, name))
            world.add(*(world.message(f"d{n}", campaignId="spring") for n in range(8)))
            await until(lambda: len(world.jobs_in("wait")) == 8 and world.ask("HLEN", where), "they are not held")
            assert not all(each.is_idle for each in engines)
            assert sink.messages() == []
            assert world.states() == {}
            end_all(world)
            await until(lambda: len(sink.messages()) == 8, "the end of the pause was not noticed")
            await until(lambda: all(each.is_idle for each in engines), "it does not become idle again")

    where = f"{world.base}:adm:where"
    play(scene)


def test_what_is_held_back_keeps_a_process_awake(world: World, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    world.provider(sink.host, sink.port)
    rounds = _Rounds(monkeypatch)

    async def scene() -> None:
        set_restriction(world, RestrictedScope(world.organization))
        async with running(world) as (engine,):
            world.add(world.message())
            await until(lambda: not engine.is_idle, "it sleeps beside a message that is held")
            wanted = rounds.clocks + 10
            await until(lambda: rounds.clocks >= wanted, "the process does not look around")
            assert not engine.is_idle
            end_all(world)
            await until(lambda: len(sink.messages()) == 1, "the end of the pause was not noticed")

    play(scene)


def test_a_rate_that_is_set_meanwhile_holds_for_the_first_messages(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)

    async def scene() -> None:
        async with running(world):
            set_restriction(world, RestrictedScope(world.organization), HOURLY)
            world.add(*(world.message(f"d{n}") for n in range(8)))
            await until(
                lambda: (len(sink.messages()), len(world.jobs_in("wait")), world.jobs_in("active")) == (1, 7, []),
                "the rate does not hold",
            )

    play(scene)
    assert len(sink.messages()) == 1


def test_a_pause_that_is_ended_meanwhile_holds_no_message(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)

    async def scene() -> None:
        set_restriction(world, RestrictedScope(world.organization))
        async with running(world):
            assert world.ask("HLEN", f"{world.base}:adm:restrictions") == 1
            end_all(world)
            world.add(world.message())
            await until(lambda: len(sink.messages()) == 1, "it is held by a pause that has ended")

    play(scene)


def test_providers_that_are_changed_meanwhile_send_the_first_message(
    world: World, sink: Sink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As it is with the interval that is not shortened here.
    assert _IDLE_AFTER > pool._CONFIG_SECONDS
    monkeypatch.setattr(pool, "_CONFIG_SECONDS", 0.1)
    former = world.provider(sink.host, sink.port)

    async def scene(other: Sink) -> None:
        async with running(world) as engines:
            world.add(world.message("d1"))
            await until(lambda: len(sink.messages()) == 1, "it was not sent")
            await until(lambda: all(each.is_idle for each in engines), "it does not become idle again")
            world.write("UPDATE delivery.provider_configs SET is_active = false WHERE id = %(id)s", id=former)
            world.provider(other.host, other.port)
            world.add(world.message("d2"))
            await until(lambda: len(other.messages()) == 1, "it was not sent over the new provider")

    (tmp_path / "other").mkdir()
    with running_sink(tmp_path / "other") as other:
        play(lambda: scene(other))
    assert len(sink.messages()) == 1


def test_one_process_pauses_while_another_works(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)

    async def scene() -> None:
        async with running(world, 2) as engines:
            world.add(world.message("d0"))
            await until(lambda: len(sink.messages()) == 1, "it was not sent")
            # At least the one that has sent it is awake.
            set_restriction(world, RestrictedScope(world.organization))
            await until(lambda: world.ask("HLEN", f"{world.base}:adm:restrictions"), "no process told the queue")
            await until(lambda: all(each.is_idle for each in engines), "they do not become idle again")
            world.add(*(world.message(f"d{n}") for n in range(1, 9)))
            await until(lambda: len(world.jobs_in("wait")) == 8, "they are not held")
            end_all(world)
            await until(lambda: len(sink.messages()) == 9, "the end of the pause was not noticed")

    play(scene)


def test_an_uncertain_delivery_keeps_a_process_awake_until_it_is_settled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    contact = world.contact()
    record(world, claim(world, contact_id=str(contact)), "ambiguous")
    rounds = _Rounds(monkeypatch)

    async def scene() -> None:
        engine = world.engine(until_empty=False)
        task = asyncio.ensure_future(engine.run())
        await until(lambda: rounds.clocks >= 15, "the process does not look around")
        assert not engine.is_idle
        event(world, contact, metadata={"deliveryId": "d1"})
        await until(lambda: world.states() == {"d1": "sent"}, "the evidence is not weighed")
        await until(lambda: engine.is_idle, "it does not become idle")
        engine.stop()
        await task

    play(scene)


def test_a_delivery_that_waits_for_a_decision_does_not_keep_a_process_awake_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(world, claim(world, contact_id=str(world.contact())), "ambiguous")
    monkeypatch.setattr(ledger, "EVIDENCE_EXPECTED", timedelta())

    async def scene() -> None:
        async with running(world):
            assert world.states() == {"d1": "ambiguous"}

    play(scene)


def test_a_loss_of_data_in_redis_is_noticed_in_idle_mode(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = _Rounds(monkeypatch)
    key = f"mauntic-jobs:marker:{world.settings.queue_prefix}"

    async def scene() -> None:
        async with running(world):
            await rounds.pass_by(5)
            # Postgres has not heard of the latest numbers.
            known = read_marker(world.session, world.settings)
            assert known
            assert int(world.ask("HGET", key, "number")) > known.number + 2

            def is_noticed() -> bool:
                # A process may be about to raise it.
                world.ask("HSET", key, "number", known.number + 1)
                marker = read_marker(world.session, world.settings)
                return marker is not None and marker.loss is not None

            await until(is_noticed, "the loss was not noticed")
            await until(lambda: any("Redis was set back" in text for text in world.said), "the loss was not told of")

    play(scene)


def test_a_message_that_comes_while_postgres_is_away_waits_for_it(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)

    async def scene() -> None:
        async with running(world) as (engine,):
            is_away = True
            assert engine._idle_mode
            refresh = engine._idle_mode._refresh

            async def fail() -> float | None:
                if is_away:
                    raise UnavailableError("Postgres is away.")
                return await refresh()

            engine._idle_mode._refresh = fail
            world.add(world.message())
            await until(lambda: engine.trouble, "it is not told")
            assert sink.messages() == []
            is_away = False
            await until(lambda: len(sink.messages()) == 1, "it was not sent")
            await until(lambda: world.jobs_in("completed"), "it was not settled")
            assert world.job(world.jobs_in("completed")[0]).get("atm") == "1"

    play(scene)


def test_several_jobs_share_one_refresh_and_a_failed_one_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[float | Exception | None] = [UnavailableError("away"), math.inf, 0.0]

    async def refresh() -> float | None:
        await asyncio.sleep(0)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def scene() -> None:
        mode = IdleMode(refresh)
        assert await mode.is_current()
        monkeypatch.setattr(idle_mode, "IDLE_AFTER_SECONDS", -1)
        sleeping = asyncio.create_task(mode.until_awake())
        await asyncio.sleep(0)
        assert mode.is_on
        failed = await asyncio.gather(mode.is_current(), mode.is_current(), return_exceptions=True)
        assert [type(each) for each in failed] == [UnavailableError] * 2
        # What asks beside the work may say that the database is away.
        await sleeping
        assert not any(await asyncio.gather(mode.is_current(), mode.is_current()))
        assert await mode.is_current()
        assert len(answers) == 1

    asyncio.run(scene())
