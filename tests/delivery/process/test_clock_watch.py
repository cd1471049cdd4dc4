"""The host's clock beside those of the stores: while they are apart, nothing is taken."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from mauntic_jobs.delivery.process import clock_watch
from mauntic_jobs.delivery.process.clock_watch import ClockWatch
from mauntic_jobs.stores.postgres.async_link import PostgresLink
from mauntic_jobs.stores.redis.async_link import RedisLink
from mauntic_jobs.timekeeping import clock
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.support import run_on_loop


class _Host:
    """A host whose clock is off."""

    def __init__(self) -> None:
        self.off = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.off


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> _Host:
    own = _Host()
    monkeypatch.setattr(clock, "now", own.now)
    return own


@pytest.mark.parametrize("off", [timedelta(days=3), timedelta(seconds=90), -timedelta(seconds=90)])
def test_nothing_is_taken_while_the_clock_is_wrong_and_delivery_goes_on_when_it_is_right(
    world: World, sink: Sink, host: _Host, monkeypatch: pytest.MonkeyPatch, off: timedelta
) -> None:
    monkeypatch.setattr(clock_watch, "_PAUSE_WHILE_WRONG_SECONDS", 0.1)
    looks = 0
    look = ClockWatch.look

    async def counted(watch: ClockWatch, *, redis_alone: bool = False) -> None:
        nonlocal looks
        await look(watch, redis_alone=redis_alone)
        looks += 1

    monkeypatch.setattr(ClockWatch, "look", counted)
    world.provider(sink.host, sink.port)
    world.add(*(world.message(f"d{n}") for n in range(5)))
    host.off = off

    async def run() -> None:
        engine = world.engine(until_empty=False)
        running = asyncio.ensure_future(engine.run())
        while looks < 10:  # noqa: ASYNC110 - no bell rings
            await asyncio.sleep(0.05)
        assert world.states() == {}
        assert len(world.jobs_in("wait")) == 5
        assert engine.trouble
        host.off = timedelta(0)
        while len(world.jobs_in("completed")) < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        engine.stop()
        await running

    run_on_loop(asyncio.wait_for(run(), 30))
    assert set(world.states().values()) == {"sent"}
    assert world.said[1:] == ["clock: works again"]
    said = world.said[0]
    seconds = abs(off.total_seconds())
    figures = [f"{seconds + n:,.0f} s {'ahead of' if off > timedelta(0) else 'behind'}" for n in (-1, 0)]
    assert any(f"{figure} Postgres" in said for figure in figures), said
    assert any(f"{figure} Redis" in said for figure in figures), said


def test_up_to_a_minute_apart_is_no_matter_and_an_answer_that_takes_long_is_none(world: World, host: _Host) -> None:
    told: list[Exception | None] = []

    async def run() -> None:
        postgres, redis = PostgresLink(world.settings), RedisLink(world.settings)
        watch = ClockWatch(postgres, redis, lambda _, error: told.append(error))
        host.off = timedelta(seconds=55)
        await watch.look()
        assert not watch.is_wrong

        async def late() -> float:
            there = datetime.now(UTC).timestamp()
            host.off += timedelta(minutes=5)
            return there

        assert await clock_watch._skew(late) == pytest.approx(55, abs=5)
        await redis.close()
        await postgres.close()

    run_on_loop(run())
    assert told == [None]
