"""A real Exim: its limits and its logins, the whole way from the queue."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.delivery.authority import Authority, new_authority
from tests.delivery.exim import PER_CONNECTION, Exim, running_exim
from tests.delivery.postfix_services import LOGIN
from tests.delivery.world import World
from tests.support import wait_until


@pytest.fixture(scope="module")
def authority() -> Authority:
    return new_authority()


@pytest.fixture(scope="module")
def exim(authority: Authority) -> Iterator[Exim]:
    with running_exim(authority.issue()) as running:
        yield running


def recipients(world: World, count: int) -> list[str]:
    """Put messages on the queue, and return their recipients, which no other test has."""
    addresses = [f"a{n}.{world.organization.hex}@example.com" for n in range(count)]
    world.add(*(world.message(f"d{n:02}", emailAddress=each) for n, each in enumerate(addresses)))
    return addresses


def login(authority: Authority) -> dict[str, Any]:
    return {"secure": True, "tls": {"ca": authority.pem}, **LOGIN}


def wait_for(exim: Exim, addresses: list[str]) -> None:
    own = set(addresses)
    wait_until(lambda: sorted(set(exim.accepted()) & own) == sorted(addresses), "the messages")
    assert len([each for each in exim.accepted() if each in own]) == len(addresses)


def test_a_limit_of_a_senders_rate_fails_no_message(world: World, exim: Exim, authority: Authority) -> None:
    world.provider("127.0.0.1", exim.limited, tls={"ca": authority.pem})
    addresses = recipients(world, 10)
    world.deliver_within_limits()
    wait_for(exim, addresses)
    attempts = [each for row in world.ledger() for each in row["attempts"]]
    assert {each.get("outcome", "deferred") for each in attempts} == {"accepted", "deferred"}


def test_more_messages_than_a_connection_may_carry_are_sent_at_once(
    world: World, exim: Exim, authority: Authority
) -> None:
    world.provider("127.0.0.1", exim.secure, **login(authority))
    addresses = recipients(world, 4 * PER_CONNECTION)
    world.deliver(concurrency={"email": 2})
    # Its 421 leaves the connection open, and is said to a connection that has carried messages.
    assert set(world.states().values()) == {"sent"}
    assert all(len(row["attempts"]) == 1 for row in world.ledger())
    wait_for(exim, addresses)


def test_a_server_that_wants_a_login_is_of_no_use_without(world: World, exim: Exim, authority: Authority) -> None:
    world.provider("127.0.0.1", exim.secure, secure=True, tls={"ca": authority.pem})
    recipients(world, 1)
    world.deliver()
    (row,) = world.ledger()
    assert (row["state"], row["attempts"][0]["blame"]) == ("deferred", "sender")
    assert "relay not permitted" in row["reason"]
