"""A real Exim: its limits and its logins, the whole way from the queue."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.delivery.authority import Authority, new_authority
from tests.delivery.exim import PER_CONNECTION, STEPS, Exim, running_exim
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
    assert {each["outcome"] for each in attempts} == {"accepted", "rate-limited"}


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


def _one_message(world: World, exim: Exim, authority: Authority) -> list[str]:
    # Over STARTTLS with a login, so that it comes to every step.
    options: dict[str, Any] = {"tls": {"ca": authority.pem}, **LOGIN}
    world.provider("127.0.0.1", exim.open, **options)
    return recipients(world, 1)


@pytest.mark.parametrize("step", STEPS)
def test_a_421_at_any_step_costs_neither_an_attempt_nor_a_doubt(
    world: World, exim: Exim, authority: Authority, step: str
) -> None:
    addresses = _one_message(world, exim, authority)
    (name,) = world.jobs_in("wait")
    with exim.refusing(step):
        world.deliver()
    (row,) = world.ledger()
    assert (row["state"], row["possible_duplicate"]) == ("deferred", False), row["reason"]
    # What a server says to a login is not repeated: it may hold the password.
    assert ("refused the login: 421" if step == "auth" else "421 4.3.2") in row["reason"]
    assert world.job(name).get("atm", "0") == "0"
    world.hurry()
    world.deliver()
    assert world.states() == {"d00": "sent"}
    wait_for(exim, addresses)


def test_only_a_missing_answer_to_the_content_leaves_a_doubt(world: World, exim: Exim, authority: Authority) -> None:
    addresses = _one_message(world, exim, authority)
    with exim.refusing("late-data"):
        world.deliver()
    (row,) = world.ledger()
    assert row["state"] == "ambiguous", row["reason"]
    world.hurry()
    world.deliver()
    (row,) = world.ledger()
    assert (row["state"], row["possible_duplicate"]) == ("sent", True)
    wait_until(lambda: set(addresses) <= set(exim.accepted()), "the message")


@pytest.mark.parametrize("step", ["connect", "helo", "starttls", "auth", "mail", "rcpt", "predata"])
def test_a_late_answer_before_the_content_leaves_no_doubt(
    world: World, exim: Exim, authority: Authority, step: str
) -> None:
    addresses = _one_message(world, exim, authority)
    with exim.refusing(f"late-{step}"):
        world.deliver(drain_timeout=timedelta(seconds=1))
    (row,) = world.ledger()
    assert (row["state"] in ("claimed", "deferred"), row["possible_duplicate"]) == (True, False), row["reason"]
    world.hurry()
    world.deliver()
    assert world.states() == {"d00": "sent"}
    wait_for(exim, addresses)


def test_a_server_that_wants_a_login_is_of_no_use_without(world: World, exim: Exim, authority: Authority) -> None:
    world.provider("127.0.0.1", exim.secure, secure=True, tls={"ca": authority.pem})
    recipients(world, 1)
    world.deliver()
    (row,) = world.ledger()
    assert (row["state"], row["attempts"][0]["blame"]) == ("deferred", "sender")
    assert "relay not permitted" in row["reason"]
