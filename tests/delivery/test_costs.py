"""Costs of a message that no machine changes: what it asks of Postgres and Redis.

A change that raises a number has to give a reason for it in the table.
"""

from typing import NamedTuple

import pytest
from pydantic import SecretStr

from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.wire_counter import counted

# How many messages the second delivery has more than the first: what does not depend on their number cancels out.
FEW, MANY = 150, 350


class Cost(NamedTuple):
    """Statements of Postgres; of Redis calls of scripts, all commands with those of scripts, and what is sent to it."""

    statements: float
    scripts: float
    commands: float
    kilobytes: float


# For one message, at most; and why it is so many.
COSTS = {
    # Its contact, its provider and its claim in one batch, its result in another; the end of one job takes the next.
    1: Cost(2.3, 1.2, 56, 2.0),
    # As many are claimed beside those that are sent, so that a batch has three or four.
    5: Cost(0.9, 1.2, 56, 2.0),
    # Several messages share a batch. Slots that find nothing at the end ask once more than at the beginning, or less.
    50: Cost(0.5, 1.8, 60, 2.6),
}


def taken(world: World, messages: int, at_once: int) -> Cost:
    """Deliver messages; return what that took in all."""
    own = world.settings
    assert own.database_url
    contacts = [str(world.contact()) for _ in range(messages)]
    world.add(*(world.message(f"m{messages}-{n}", contactId=contact) for n, contact in enumerate(contacts)))
    world.ask("CONFIG", "RESETSTAT")
    with counted(own.database_url.get_secret_value()) as asked:
        world.settings = own.model_copy(update={"database_url": SecretStr(asked.url)})
        world.deliver(concurrency={"email": at_once})
    world.settings = own
    calls = {name.removeprefix("cmdstat_"): found["calls"] for name, found in world.ask("INFO", "commandstats").items()}
    sent = world.ask("INFO", "stats")["total_net_input_bytes"]
    return Cost(asked.statements, calls["evalsha"], sum(calls.values()), sent / 1000)


@pytest.mark.parametrize("at_once", COSTS)
def test_a_message_takes_no_more_than_it_did(world: World, sink: Sink, at_once: int) -> None:
    world.provider(sink.host, sink.port)
    # The first one loads the scripts.
    _, few, many = (taken(world, messages, at_once) for messages in (1, FEW, MANY))
    cost = Cost(*((last - first) / (MANY - FEW) for first, last in zip(few, many, strict=True)))
    assert set(world.states().values()) == {"sent"}
    assert all(found <= most for found, most in zip(cost, COSTS[at_once], strict=True)), cost
    assert min(cost) > 0, cost
