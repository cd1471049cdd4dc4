"""The limit of a domain that is being warmed up holds, whichever engine and process sends, and whatever Redis loses."""

import asyncio
from uuid import uuid4

import pytest

from mauntic_jobs.warmup.keys import keys
from tests.delivery.ledger_calls import claim, record
from tests.delivery.sink import Sink
from tests.delivery.world import World, sent_by_node

_LIMIT = 50
_TODAY = "date_trunc('day', clock_timestamp() AT TIME ZONE 'UTC')"


@pytest.fixture
def warming(world: World, sink: Sink) -> World:
    """Return a world whose domain was created just now: it may send 50 messages."""
    world.provider(sink.host, sink.port)
    add_domain(world)
    return world


def add_domain(world: World) -> None:
    # A little ago, so that what was sent today was sent by it.
    world.write(
        "INSERT INTO delivery.sending_domains (organization_id, domain, created_at)"
        f" VALUES (%(organization)s, 'acme.test', {_TODAY})"
    )


def add(world: World, first: int, count: int) -> None:
    world.add(*(world.message(f"d{n:03}", contactId=str(world.contact())) for n in range(first, first + count)))


def settle(world: World) -> None:
    """Deliver until nothing is to be tried again: a sink on a busy machine may answer too late for one attempt."""
    for _ in range(5):
        if "claimed" not in world.states().values():
            return
        world.deliver()


def test_after_redis_has_lost_its_data_no_more_is_sent(warming: World, sink: Sink) -> None:
    for turn in range(3):
        add(warming, turn * 30, 30)
        warming.deliver()
        for key in keys(warming.organization, "acme.test"):
            warming.ask("DEL", key)
    settle(warming)
    assert len(sink.messages()) == _LIMIT
    assert list(warming.states().values()).count("deferred") == 90 - _LIMIT


def test_after_a_cut_over_at_noon_what_node_has_sent_counts(warming: World, sink: Sink) -> None:
    sent_by_node(warming, 45)
    sent_by_node(warming, 30, f"{_TODAY} - interval '1 second'")
    add(warming, 0, 10)
    warming.deliver()
    assert len(sink.messages()) == 5


def test_beside_the_node_engine_the_limit_is_shared(warming: World, sink: Sink) -> None:
    for turn in range(4):
        sent_by_node(warming, 10)
        add(warming, turn * 10, 10)
        warming.deliver()
    # 10 of Node before each turn: 20 together after the first, 40 after the second, and the limit is reached by Node's.
    assert len(sink.messages()) == 20


def test_what_we_sent_is_not_counted_as_nodes(warming: World, sink: Sink) -> None:
    add(warming, 0, _LIMIT)
    warming.deliver()
    assert len(sink.messages()) == _LIMIT
    events = warming.session.rows(b"SELECT count(*) AS count FROM delivery.delivery_events WHERE event_type = 'sent'")
    assert events[0]["count"] == _LIMIT


def test_another_organizations_messages_do_not_count(warming: World, sink: Sink) -> None:
    own, warming.organization = warming.organization, uuid4()
    sent_by_node(warming, _LIMIT)
    warming.organization = own
    add(warming, 0, 3)
    warming.deliver()
    assert len(sink.messages()) == 3


def test_several_processes_send_exactly_the_limit(warming: World, sink: Sink) -> None:
    add(warming, 0, 80)

    async def run() -> None:
        engines = [warming.engine(concurrency={"email": 10}) for _ in range(3)]
        await asyncio.wait_for(asyncio.gather(*(engine.run() for engine in engines)), 60)

    asyncio.run(run())
    assert len(sink.messages()) == _LIMIT
    settle(warming)
    assert list(warming.states().values()).count("deferred") == 30
    assert len(sink.messages()) == _LIMIT


def test_a_domain_that_was_removed_and_added_again_starts_anew(warming: World, sink: Sink) -> None:
    add(warming, 0, _LIMIT + 1)
    warming.deliver()
    assert len(sink.messages()) == _LIMIT
    warming.write("UPDATE delivery.sending_domains SET created_at = clock_timestamp() AT TIME ZONE 'UTC'")
    warming.hurry()
    warming.deliver()
    assert len(sink.messages()) == _LIMIT + 1


def test_what_may_have_been_sent_counts_and_what_was_not_does_not(warming: World) -> None:
    limited = {"domain": "acme.test", "most": 1, "day": "2026-01-01T00:00:00Z"}
    first = claim(warming, "d1", **limited)
    assert (first["state"], first["over"]) == ("sending", False)
    assert claim(warming, "d2", **limited)["over"]
    record(warming, first, "failed", "d1")
    second = claim(warming, "d3", **limited)
    assert (second["state"], second["over"]) == ("sending", False)
    record(warming, second, "ambiguous", "d3")
    assert claim(warming, "d4", **limited)["over"]


def test_a_second_job_for_a_message_takes_no_place(warming: World) -> None:
    limited = {"domain": "acme.test", "most": 2, "day": "2026-01-01T00:00:00Z"}
    record(warming, claim(warming, "d1", **limited), "sent", "d1")
    assert not claim(warming, "d1", **limited)["over"]
    assert claim(warming, "d2", **limited)["state"] == "sending"


def test_a_domain_that_the_platform_does_not_know_has_no_limit(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    add(world, 0, _LIMIT + 5)
    world.deliver()
    assert len(sink.messages()) == _LIMIT + 5
    assert {row["domain"] for row in world.ledger()} == {None}


def test_without_redis_the_limit_holds(warming: World) -> None:
    """What the claims count is in Postgres alone: the counter in Redis is for others to read."""
    warming.ask("SET", keys(warming.organization, "acme.test")[0], 1_000)
    add(warming, 0, 1)
    warming.deliver()
    assert set(warming.states().values()) == {"sent"}
