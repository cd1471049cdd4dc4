"""The scripts alone: what is counted before, after and during resets, in every order."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from itertools import permutations
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.lua import script
from mauntic_jobs.warmup.keys import dates, keys
from tests.jobs.warmup import ACCOUNT, ACME, COUNTER, TODAY, TOMORROW, YESTERDAY, count, reset


@pytest.fixture
def client(servers: Servers) -> Iterator[Any]:
    with Redis.from_url(f"{servers.redis_url}/5", decode_responses=True) as client:
        client.flushdb()
        yield client


def test_a_message_of_yesterday_counted_after_the_reset_is_entered_in_the_account_only(client: Any) -> None:
    count(client, YESTERDAY, 200)
    reset(client, TODAY)
    count(client, TODAY, 3)
    assert count(client, YESTERDAY) == 201
    assert client.get(COUNTER) == "3"
    assert count(client, YESTERDAY, -1) == 200


def test_messages_can_be_taken_back(client: Any) -> None:
    count(client, YESTERDAY, 200)
    count(client, TODAY, 3)
    assert count(client, TODAY, -1) == 202
    reset(client, TODAY)
    assert client.get(COUNTER) == "2"
    count(client, TOMORROW, -5)
    assert reset(client, TOMORROW) == ["-3", 0]
    assert not client.exists(COUNTER)


def test_what_only_the_counter_knows_is_forgotten_by_the_first_reset_of_a_day(client: Any) -> None:
    count(client, TODAY, 30)
    client.incrby(COUNTER, 5)
    assert reset(client, TODAY) == ["35", 30]
    assert client.get(COUNTER) == "30"


def test_a_counter_that_was_lost_is_restored_from_the_account(client: Any) -> None:
    count(client, TODAY, 30)
    client.delete(COUNTER)
    assert reset(client, TODAY) == [None, 30]
    assert client.get(COUNTER) == "30"


@pytest.mark.parametrize("value", ["many", "1.5", ["a", "list"]])
def test_a_counter_that_is_no_number_is_replaced(client: Any, value: Any) -> None:
    client.set(COUNTER, value) if isinstance(value, str) else client.rpush(COUNTER, *value)
    assert reset(client, TODAY) == [value if isinstance(value, str) else "not a string", 0]
    assert count(client, TODAY) == 1


def test_the_account_expires_and_the_counter_keeps_its_own_time_to_live(client: Any) -> None:
    count(client, TODAY, 30)
    assert 3 * 86_390 < client.ttl(ACCOUNT) <= 3 * 86_400
    client.incrby(COUNTER, 100)
    client.expire(COUNTER, 1000)
    client.persist(ACCOUNT)
    reset(client, TODAY)
    assert 990 < client.ttl(COUNTER) <= 1000
    assert 3 * 86_390 < client.ttl(ACCOUNT) <= 3 * 86_400


def test_a_counter_expires(client: Any) -> None:
    count(client, TODAY, 30)
    assert 3 * 86_390 < client.ttl(COUNTER) <= 3 * 86_400
    client.persist(COUNTER)
    reset(client, TODAY)
    assert 3 * 86_390 < client.ttl(COUNTER) <= 3 * 86_400


def test_the_account_of_a_domain_that_is_never_reset_does_not_grow(client: Any) -> None:
    for number in range(20):
        count(client, TODAY + timedelta(days=number))
    assert sorted(client.hkeys(ACCOUNT)) == [f"2026-10-{number}" for number in range(20, 25)]
    assert client.get(COUNTER) == "20"


def test_counting_at_a_counter_that_is_no_number_fails_before_it_writes(client: Any) -> None:
    client.set(COUNTER, "many")
    with pytest.raises(ResponseError, match="not an integer"):
        count(client, TODAY)
    assert not client.exists(ACCOUNT)


def test_a_reset_by_a_clock_days_ahead_neither_lifts_the_limit_nor_prevents_the_next_reset(client: Any) -> None:
    reset(client, date(2027, 1, 1))
    assert count(client, TODAY, 30) == 30
    client.incrby(COUNTER, 5)
    assert reset(client, TODAY) == ["35", 30]
    assert reset(client, TODAY) == ["30", None]


# Each event has its own binary digit, so that a counter shows which events are in it.
_COUNTS = {"yesterday": (YESTERDAY, 1), "today": (TODAY, 2), "today again": (TODAY, 4), "tomorrow": (TOMORROW, 8)}
_INCREMENTS = {"node": 16, "node again": 32}
_OLD = 1 << 20


def _play(client: Any, orders: Sequence[Sequence[str]]) -> list[int]:
    """Let the events happen in each of the orders, and return the counters."""
    names = [keys(ACME, str(number)) for number in range(len(orders))]
    pipeline = client.pipeline(transaction=False)
    counting, resetting = (client.script_load(script(f"warmup_{name}")) for name in ("count", "reset"))
    for (counter, account), order in zip(names, orders, strict=True):
        pipeline.set(counter, _OLD)
        for event in order:
            if event in _INCREMENTS:
                pipeline.incrby(counter, _INCREMENTS[event])
            elif event in _COUNTS:
                day, messages = _COUNTS[event]
                pipeline.evalsha(counting, 2, counter, account, *dates(day), messages)
            else:
                start = TOMORROW if event == "reset tomorrow" else TODAY
                pipeline.evalsha(resetting, 2, counter, account, *dates(start), 1)
    pipeline.execute()
    return [int(value or 0) for value in client.mget([counter for counter, _ in names])]


def _sum(events: Iterable[str]) -> int:
    amounts = {**_INCREMENTS, **{name: messages for name, (_, messages) in _COUNTS.items()}}
    return sum(amounts.get(event, 0) for event in events)


def test_in_every_order_of_events_the_counter_ends_with_exactly_those_of_today(client: Any) -> None:
    events = ("yesterday", "today", "today again", "tomorrow", "node", "reset", "reset again")
    orders = list(permutations(events))
    expected = []
    for order in orders:
        first = min(order.index("reset"), order.index("reset again"))
        expected.append(_sum(("today", "today again", "tomorrow")) + _sum({"node"} & set(order[first:])))
    assert _play(client, orders) == expected


def test_in_every_order_around_two_midnights_the_counter_ends_with_exactly_those_of_the_second(client: Any) -> None:
    events = ("today", "tomorrow", "node", "node again", "reset", "reset tomorrow")
    orders = list(permutations(events))
    expected = []
    for order in orders:
        rest = order[order.index("reset tomorrow") :]
        expected.append(_sum(["tomorrow"]) + _sum({"node", "node again"} & set(rest)))
    assert _play(client, orders) == expected
