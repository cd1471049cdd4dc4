"""The small parts: batches, the cache, the breaker, the numbers, the health, and the warm-up's table."""

import asyncio
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from mauntic_jobs.cli.deliver import _health
from mauntic_jobs.delivery.batches import Batcher
from mauntic_jobs.delivery.breaker import Breaker
from mauntic_jobs.delivery.cache import Cache
from mauntic_jobs.delivery.outcome import Outcome, Verdict
from mauntic_jobs.delivery.queues import lengths
from mauntic_jobs.delivery.sending import Sending
from mauntic_jobs.delivery.stats import BUCKETS, ChannelStats, merged
from mauntic_jobs.delivery.troubles import Troubles
from mauntic_jobs.delivery.warmup import daily_limit
from mauntic_jobs.stores.redis_link import RedisLink
from tests.delivery.world import World

CREATED = datetime(2026, 10, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "kept"),
    [(None, 30.0), (0.0, 0.1), (7.0, 7.0), (86_400.0, 86_400.0), (1e15, 86_400.0), (math.inf, 86_400.0)],
)
def test_a_provider_is_left_alone_for_a_day_at_most(said: float | None, kept: float) -> None:
    sending = Sending(Breaker())
    provider = (UUID(int=1), UUID(int=2))
    assert sending._note(provider, Outcome(Verdict.RATE_LIMITED, "429", retry_after=said)) == kept
    assert 0 < sending.breaker.limit(provider) <= kept


def test_what_is_asked_during_a_call_is_one_call() -> None:
    calls: list[list[int]] = []

    async def call(items: list[int]) -> Sequence[int | Exception]:
        calls.append(items)
        await asyncio.sleep(0)
        return [ValueError(str(item)) if item == 3 else item * 2 for item in items]

    async def run() -> list[int | BaseException]:
        batcher: Batcher[int, int] = Batcher(call)
        return await asyncio.gather(*(batcher.ask(n) for n in range(5)), return_exceptions=True)

    answers = asyncio.run(run())
    assert [answer for answer in answers if isinstance(answer, int)] == [0, 2, 4, 8]
    assert isinstance(answers[3], ValueError)
    assert len(calls) == 1


def test_a_call_that_fails_fails_for_all_and_the_next_goes_on() -> None:
    async def call(items: list[int]) -> Sequence[int | Exception]:
        if 0 in items:
            raise OSError("away")
        return items

    async def run() -> int:
        batcher: Batcher[int, int] = Batcher(call)
        with pytest.raises(OSError, match="away"):
            await batcher.ask(0)
        return await batcher.ask(1)

    assert asyncio.run(run()) == 1


def test_a_value_is_loaded_once_for_all_who_ask_and_an_error_is_not_kept() -> None:
    loads: list[str] = []

    async def load(key: str) -> str:
        loads.append(key)
        await asyncio.sleep(0)
        if len(loads) == 1:
            raise OSError("away")
        return key.upper()

    async def run() -> list[str]:
        cache: Cache[str, str] = Cache(load, 60)
        with pytest.raises(OSError, match="away"):
            await cache.get("a")
        return await asyncio.gather(*(cache.get("a") for _ in range(5)))

    assert asyncio.run(run()) == ["A"] * 5
    assert loads == ["a", "a"]


NOW = datetime(2026, 11, 26, 11, 42, tzinfo=UTC)


def test_a_provider_that_is_left_alone_has_the_refusal_beside_it() -> None:
    now = 0.0
    breaker = Breaker(lambda: now)
    for minute in range(5):
        assert breaker.refusal("p") is None
        breaker.failed("p", f"535 no {minute}", NOW + timedelta(minutes=minute))
    assert str(breaker.refusal("p")) == "535 no 4 (since 2026-11-26 11:42 UTC, 5 tries)"
    breaker.limited("q", 20, "429 later", NOW)
    assert str(breaker.refusal("q")) == "429 later (since 2026-11-26 11:42 UTC, 1 try)"
    now = 21
    assert breaker.refusal("q") is None
    breaker.close("p")
    assert (breaker.refusal("p"), breaker.opened()) == (None, {})


def test_a_provider_is_left_alone_after_five_failures_and_each_time_for_longer() -> None:
    now = 0.0
    breaker = Breaker(lambda: now)
    for _ in range(4):
        breaker.failed("p", "535 no", NOW)
    assert breaker.remaining("p") == 0
    breaker.failed("p", "535 no", NOW)
    assert breaker.remaining("p") == 30
    breaker.failed("p", "535 no", NOW)
    assert breaker.remaining("p") == 30, "failures that were under way do not count"
    now = 31
    breaker.failed("p", "535 no", NOW)
    assert breaker.remaining("p") == 60
    now = 100
    breaker.succeeded("p")
    breaker.failed("p", "535 no", NOW)
    assert breaker.remaining("p") == 0


@pytest.mark.parametrize(
    ("age", "limit"),
    [
        (timedelta(0), 50),
        (timedelta(days=1), 50),
        (timedelta(days=1, seconds=1), 100),
        (timedelta(days=3), 250),
        (timedelta(days=5, hours=1), 1_750),
        (timedelta(days=29, hours=23), 50_000),
        (timedelta(days=10, hours=12), 6_250),
        (timedelta(days=30), 50_000),
        (timedelta(days=30, microseconds=1), None),
        (timedelta(days=-1), 50),
    ],
)
def test_the_warm_ups_limit_follows_the_platforms_table(age: timedelta, limit: int | None) -> None:
    assert daily_limit(CREATED, CREATED + age) == limit


def test_numbers_of_several_processes_add_up() -> None:
    one, other = ChannelStats(moved=1.0), ChannelStats(moved=2.0)
    one.settle("sent", 0.003)
    other.settle("sent", 0.2)
    other.settle("failed", 100)
    both = merged([{"email": one}, {"email": other}])["email"]
    assert both.settled == {"sent": 2, "failed": 1}
    assert sum(both.seconds) == 3
    assert (both.quantile(0.3), both.quantile(0.5), both.quantile(1)) == (BUCKETS[0], 0.25, BUCKETS[-1])


def test_a_trouble_is_told_once_and_when_it_is_over() -> None:
    said: list[str] = []
    troubles = Troubles(said.append)
    for _ in range(100):
        troubles.tell("redis", OSError("away"))
    assert troubles.current == "away"
    troubles.tell("redis", None)
    troubles.tell("redis", None)
    assert said == ["redis: away", "redis: works again"]
    assert troubles.current is None


@pytest.mark.parametrize(
    ("numbers", "trouble", "is_well"),
    [
        ({"queue": {"waiting": 0, "delayed": 9}}, None, True),
        ({"queue": {"waiting": 1}}, None, False),
        ({"queue": {"prioritized": 1}}, None, False),
        ({"active": 1}, None, False),
        ({"queue": {"waiting": 1}, "moved": math.inf}, None, True),
        ({"queue": {"waiting": 1}}, "Postgres is away", True),
        ({"queue": {"waiting": 0, "paused": 5}}, None, True),
    ],
)
def test_a_process_is_dead_when_nothing_moves_though_jobs_wait(
    numbers: dict[str, Any], trouble: str | None, is_well: bool
) -> None:
    stats = {"email": ChannelStats(**{"moved": -math.inf, **numbers})}
    well, details = _health(SimpleNamespace(stats=stats, trouble=trouble))()  # type: ignore[arg-type]  # what it asks for
    assert well is is_well
    assert (details["stuck"] == []) is (is_well and trouble is None)


@pytest.mark.parametrize("moved", [True, False])
def test_jobs_of_a_paused_queue_are_not_waiting(world: World, moved: bool) -> None:
    world.add(world.message("d1"), world.message("d2"))
    world.ask("HSET", f"{world.base}:meta", "paused", 1)
    if moved:
        world.ask("RENAME", f"{world.base}:wait", f"{world.base}:paused")

    async def run() -> dict[str, int]:
        redis = RedisLink(world.settings)
        try:
            return await lengths(redis, world.base)
        finally:
            await redis.close()

    counts = asyncio.run(run())
    assert (counts["waiting"], counts["paused"]) == (0, 2)
