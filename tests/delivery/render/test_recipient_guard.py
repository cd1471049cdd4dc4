"""Recipient guard: who gets messages of an installation that is not in production."""

import pytest

from mauntic_jobs.delivery.render.recipient_guard import REASON, guard_of, is_reserved
from mauntic_jobs.settings.settings import Settings
from tests.delivery.sink import Sink
from tests.delivery.world import World


def recipients(sink: Sink) -> list[str]:
    return sorted(each.recipients[0] for each in sink.messages())


def guarded(world: World, sink: Sink, *addresses: str, **settings: str) -> dict[str, str]:
    world.settings = world.settings.model_copy(update=settings)
    world.provider(sink.host, sink.port)
    world.add(*(world.message(f"d{n}", emailAddress=address) for n, address in enumerate(addresses)))
    world.deliver()
    return world.states()


def test_only_allowed_recipients_get_messages(world: World, sink: Sink) -> None:
    addresses = ("ann@acme.test", "ANN@Other.test", "bob@other.test", "eve@sub.acme.test", "eve@example.com")
    states = guarded(world, sink, *addresses, recipients_allow="acme.test, ann@other.test")
    assert recipients(sink) == ["ANN@other.test", "ann@acme.test"]
    assert sorted(states.values()) == ["sent", "sent", "suppressed", "suppressed", "suppressed"]
    assert {row["reason"] for row in world.ledger() if row["state"] == "suppressed"} == {REASON}
    # Nothing is wrong with these addresses.
    assert world.session.rows(b"SELECT * FROM delivery.suppressions") == []


def test_messages_to_others_are_redirected(world: World, sink: Sink) -> None:
    allowed = {"recipients_allow": "acme.test", "recipients_redirect": "staging@acme.test, +15005550006"}
    states = guarded(world, sink, "ann@acme.test", "bob@other.test", **allowed)
    assert recipients(sink) == ["ann@acme.test", "staging@acme.test"]
    assert set(states.values()) == {"sent"}
    assert sorted(row["address"] for row in world.ledger()) == ["ann@acme.test", "bob@other.test"]


def test_an_empty_list_lets_no_message_out(world: World, sink: Sink) -> None:
    assert guarded(world, sink, "ann@acme.test", recipients_allow="") == {"d0": "suppressed"}
    assert recipients(sink) == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (Settings(), None),
        (Settings(embedded=True), "MESSAGES GO ONLY TO reserved"),
        (Settings(recipients_allow=""), "MESSAGES GO ONLY TO NO ONE"),
        (
            Settings(recipients_allow="acme.test", recipients_redirect="staging@acme.test"),
            "MESSAGES GO ONLY TO acme.test; ALL OTHERS TO staging@acme.test",
        ),
    ],
)
def test_the_guard_of_an_installation(settings: Settings, sentence: str | None) -> None:
    assert guard_of(settings).sentence == sentence


def test_reserved_domains() -> None:
    assert all(is_reserved(domain) for domain in ("example.com", "mail.example.org", "acme.test", "a.invalid"))
    assert not any(is_reserved(domain) for domain in ("example.co", "myexample.com", "test.com", "test"))


@pytest.mark.parametrize("wrong", ["ann @acme.test", "+", "a b"])
def test_what_is_not_a_recipient_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="must be a domain"):
        Settings(recipients_allow=wrong)
    with pytest.raises(ValueError, match="must be an email address"):
        Settings(recipients_redirect=wrong)
