"""Refusals by whom they blame, the whole way: to the next provider, or to a failure with or without a suppression."""

import json
from pathlib import Path

import pytest

from tests.delivery.ledger.test_operator_commands import program
from tests.delivery.sink import Sink, running_sink
from tests.delivery.world import World


@pytest.mark.parametrize("script", ["relay-554", "sender-550", "data-unverified-554"])
def test_a_fault_of_the_senders_account_goes_to_the_next_provider(
    world: World, sink: Sink, tmp_path: Path, script: str
) -> None:
    (tmp_path / "other").mkdir()
    with running_sink(tmp_path / "other") as other:
        world.provider(sink.host, sink.port, priority=2)
        world.provider(other.host, other.port, priority=1)
        sink.behaviour.recipients["ann"] = script
        world.add(world.message(emailAddress="ann@example.com"))
        world.deliver()
        assert world.states() == {"d1": "sent"}
        assert [message.recipients for message in other.messages()] == [("ann@example.com",)]
    assert sink.messages() == []


@pytest.mark.parametrize(
    ("script", "reject", "suppressed"),
    [("reject-550", "bounced", True), ("policy-550", "blocked", False), ("full-552", "other", False)],
)
def test_only_a_missing_mailbox_puts_the_address_on_the_suppressions(
    world: World, sink: Sink, script: str, reject: str, *, suppressed: bool
) -> None:
    world.provider(sink.host, sink.port)
    world.add(world.message(emailAddress=f"{script}@example.com"))
    world.deliver()
    (row,) = world.ledger()
    assert (row["state"], row["reject_reason"]) == ("failed", reject)
    known = world.session.rows(b"SELECT email FROM delivery.suppressions")
    assert [each["email"] for each in known] == ([f"{script}@example.com"] if suppressed else [])


@pytest.mark.parametrize(
    ("script", "blame"), [("reject-550", "mailbox"), ("policy-550", "policy"), ("defer-451", "wait"), ("ok", None)]
)
def test_what_a_refusal_is_about_is_shown(world: World, sink: Sink, script: str, blame: str | None) -> None:
    world.provider(sink.host, sink.port)
    world.add(world.message(emailAddress=f"{script}@example.com"))
    world.deliver()
    (listed,) = json.loads(program(world, "deliveries", "list", "--json").stdout)
    assert listed["blame"] == blame
    shown = program(world, "deliveries", "show", listed["delivery_id"]).stdout
    assert (f"blame: {blame}" in shown) is (blame is not None)
