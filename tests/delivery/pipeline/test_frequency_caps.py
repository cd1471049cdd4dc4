"""Frequency caps hold over campaigns and processes, and whatever is repeated, killed or removed."""

import asyncio
import json
from collections import Counter
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from mauntic_jobs.settings.types import ChannelSettings
from tests.delivery import crash
from tests.delivery.ledger.test_operator_commands import program
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.support import run_on_loop

_MOST = 3


@pytest.fixture
def capped(world: World, sink: Sink) -> World:
    """Return a world whose contacts get three emails a week."""
    world.provider(sink.host, sink.port)
    cap = ChannelSettings(frequency_cap=f"{_MOST} in 7d")
    world.settings = world.settings.model_copy(update={"channels": {"email": cap}})
    return world


def add(world: World, contact: UUID, *names: str) -> None:
    world.add(*(world.message(name, contactId=str(contact), emailAddress="ann@example.com") for name in names))


def let_pass(world: World, length: timedelta) -> None:
    """Let what was counted be so much older."""
    world.write(
        "UPDATE mauntic_jobs.frequency_caps SET deliveries ="
        " (SELECT jsonb_object_agg(key, value::float8 - %(seconds)s) FROM jsonb_each(deliveries))",
        seconds=length.total_seconds(),
    )


def test_two_processes_together_send_no_more(capped: World, sink: Sink) -> None:
    contacts = [capped.contact() for _ in range(4)]
    for contact in contacts:
        add(capped, contact, *(f"{contact.hex}-{number}" for number in range(12)))
    run_on_loop(_both(capped))
    states = Counter((name.partition("-")[0], state) for name, state in capped.states().items())
    assert states == {
        (contact.hex, state): count for contact in contacts for state, count in (("sent", 3), ("suppressed", 9))
    }
    assert len(sink.messages()) == _MOST * len(contacts)


async def _both(world: World) -> None:
    await asyncio.wait_for(asyncio.gather(world.engine().run(), world.engine().run()), 60)


def test_a_contact_of_another_organization_counts_for_itself(capped: World, sink: Sink) -> None:
    """The platform's ids are unique, and a payload may name any."""
    contact = capped.contact()
    add(capped, contact, "a", "b", "c")
    capped.deliver()
    capped.organization = uuid4()
    capped.provider(sink.host, sink.port)
    add(capped, contact, "d")
    capped.deliver()
    assert set(capped.states().values()) == {"sent"}


def test_what_was_counted_and_not_claimed_is_sent_later(capped: World, sink: Sink) -> None:
    contact = capped.contact()
    add(capped, contact, "a", "b", "c")
    channels = json.dumps({"email": {"frequency_cap": f"{_MOST} in 7d"}})
    process = crash.start(capped, MAUNTIC_CHANNELS=channels, FAILPOINT="before-claim:1")
    crash.ended(process)
    (row,) = capped.session.rows(b"SELECT deliveries FROM mauntic_jobs.frequency_caps")
    assert (row["deliveries"], capped.states()) != ({}, {})
    crash.age(capped)
    add(capped, contact, "d")
    capped.deliver()
    assert Counter(capped.states().values()) == {"sent": 3, "suppressed": 1}
    assert len(sink.messages()) == _MOST


def test_the_same_message_again_is_not_counted_again(capped: World, sink: Sink) -> None:
    contact = capped.contact()
    for _ in range(_MOST + 2):
        add(capped, contact, "a")
        capped.deliver()
    add(capped, contact, "b")
    capped.deliver()
    assert (capped.states(), len(sink.messages())) == ({"a": "sent", "b": "sent"}, 2)


def test_a_message_that_is_tried_again_counts_from_then(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    cap = ChannelSettings(frequency_cap="1 in 2d")
    world.settings = world.settings.model_copy(update={"channels": {"email": cap}})
    contact = world.contact()
    world.add(world.message("a", contactId=str(contact), emailAddress="defer-once-451@example.com"))
    world.deliver()
    assert world.states() == {"a": "deferred"}
    let_pass(world, timedelta(hours=36))
    world.hurry()
    world.deliver()
    let_pass(world, timedelta(hours=24))
    add(world, contact, "b")
    world.deliver()
    assert world.states() == {"a": "sent", "b": "suppressed"}


def test_what_failed_and_is_retried_by_hand_is_judged_anew(capped: World, sink: Sink) -> None:
    contact = capped.contact()
    capped.add(capped.message("a", contactId=str(contact), emailAddress="policy-550@example.com"))
    capped.deliver()
    add(capped, contact, "b", "c", "d")
    capped.deliver()
    assert Counter(capped.states().values()) == {"failed": 1, "sent": 3}
    assert program(capped, "deliveries", "resolve", capped.key("a"), "--resend").returncode == 0
    capped.deliver()
    (row,) = (each for each in capped.ledger() if each["delivery_id"] == capped.key("a"))
    assert (row["state"], row["reason"]) == (
        "suppressed",
        "frequency cap: the contact gets at most 3 in 7d by email",
    )
    assert len(sink.messages()) == _MOST


def test_explain_says_why(capped: World) -> None:
    add(capped, capped.contact(), "a", "b", "c", "d")
    capped.deliver()
    (name,) = (name for name, state in capped.states().items() if state == "suppressed")
    explained = json.loads(program(capped, "deliveries", "explain", capped.key(name), "--json").stdout)
    assert explained["because"].endswith(" UTC: frequency cap: the contact gets at most 3 in 7d by email")


def test_without_a_cap_nothing_is_written(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    add(world, world.contact(), "a")
    world.deliver()
    assert world.session.rows(b"SELECT FROM mauntic_jobs.frequency_caps") == []


def test_pruning_forgets_what_no_cap_looks_at(capped: World) -> None:
    for name in "ab":
        add(capped, capped.contact(), name)
    capped.deliver()
    capped.write(
        "UPDATE mauntic_jobs.frequency_caps SET updated_at = updated_at - %(age)s WHERE deliveries ? %(delivery)s",
        age=timedelta(days=31),
        delivery=capped.key("a"),
    )
    program(capped, "db", "prune")
    rows = capped.session.rows(b"SELECT deliveries FROM mauntic_jobs.frequency_caps")
    assert [list(row["deliveries"]) for row in rows] == [[capped.key("b")]]
