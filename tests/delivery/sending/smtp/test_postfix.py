"""A real Postfix: logins, TLS, greylisting, postscreen and limits, the whole way from the queue."""

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from mauntic_jobs.ops.providers.check import ProviderTrial, check_providers
from mauntic_jobs.ops.providers.list import list_providers
from tests.delivery.authority import Authority, new_authority
from tests.delivery.crash import ended, start
from tests.delivery.postfix import Postfix, running_postfix
from tests.delivery.postfix_services import LOGIN, running_greylist, running_passwords
from tests.delivery.world import World
from tests.support import wait_until

RELAY = {"smtpd_relay_restrictions": "permit_sasl_authenticated, reject_unauth_destination"}
SASL = {**RELAY, "smtpd_sasl_auth_enable": "yes", "smtpd_tls_auth_only": "yes"}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return new_authority()


@pytest.fixture(scope="module")
def postfix(authority: Authority) -> Iterator[Postfix]:
    with running_greylist() as policy, running_passwords() as passwords:
        configurations = {
            "relay": RELAY,
            "open": {},
            "starttls": {**SASL, "smtpd_tls_security_level": "encrypt"},
            "login": {**SASL, "smtpd_tls_security_level": "may", "smtpd_sasl_mechanism_filter": "login"},
            "smtps": {**SASL, "smtpd_tls_wrappermode": "yes", "smtpd_tls_security_level": "encrypt"},
            "client": {
                "smtpd_tls_wrappermode": "yes",
                "smtpd_tls_security_level": "encrypt",
                "smtpd_tls_req_ccert": "yes",
                "smtpd_tls_ask_ccert": "yes",
            },
            "greylisting": {"smtpd_recipient_restrictions": f"check_policy_service inet:127.0.0.1:{policy}"},
            "postscreen": {"daemon": "postscreen"},
            "limited": {"smtpd_client_message_rate_limit": "5"},
            "two": {"smtpd_client_connection_count_limit": "2"},
        }
        with running_postfix(authority.issue(), authority.pem, configurations, passwords) as running:
            yield running


def use(world: World, postfix: Postfix, name: str, **values: Any) -> None:
    world.provider("127.0.0.1", postfix.ports[name], **values)


def check(world: World) -> list[ProviderTrial]:
    providers = list_providers(world.session, world.settings, world.organization)
    return asyncio.run(check_providers(world.settings, providers, None))


def recipients(world: World, count: int) -> list[str]:
    """Put messages on the queue, and return their recipients, which no other test has."""
    addresses = [f"a{n}.{world.organization.hex}@example.com" for n in range(count)]
    world.add(*(world.message(f"d{n:02}", emailAddress=each) for n, each in enumerate(addresses)))
    return addresses


def arrived(world: World, postfix: Postfix) -> list[str]:
    """Return this test's recipients to whom a message was passed on."""
    return [each for each in postfix.delivered() if world.organization.hex in each]


def test_a_relay_without_its_login_does_not_work_and_the_next_provider_sends(
    world: World, postfix: Postfix, authority: Authority
) -> None:
    use(world, postfix, "relay", priority=2)
    use(world, postfix, "starttls", priority=1, tls={"ca": authority.pem}, **LOGIN)
    relay, login = check(world)
    assert "Relay access denied" in (relay.problem or "")
    assert login.problem is None
    addresses = recipients(world, 3)
    world.deliver()
    assert set(world.states().values()) == {"sent"}
    wait_until(lambda: sorted(arrived(world, postfix)) == sorted(addresses), "the messages")
    assert {each["blame"] for row in world.ledger() for each in row["attempts"] if each["outcome"] != "accepted"} <= {
        "sender"
    }


@pytest.mark.parametrize(("name", "secure"), [("starttls", False), ("login", False), ("smtps", True)])
def test_logins_over_tls(world: World, postfix: Postfix, authority: Authority, name: str, *, secure: bool) -> None:
    use(world, postfix, name, secure=secure, tls={"ca": authority.pem}, **LOGIN)
    addresses = recipients(world, 8)
    world.deliver()
    assert set(world.states().values()) == {"sent"}
    wait_until(lambda: sorted(arrived(world, postfix)) == sorted(addresses), "the messages")


def test_a_wrong_password_is_named_and_sends_nothing(world: World, postfix: Postfix, authority: Authority) -> None:
    use(world, postfix, "starttls", tls={"ca": authority.pem}, **{**LOGIN, "password": "wrong"})
    recipients(world, 1)
    world.deliver()
    (row,) = world.ledger()
    assert (row["state"], row["reason"]) == ("deferred", "127.0.0.1 refused the login: 535")
    assert arrived(world, postfix) == []


def test_a_required_client_certificate(world: World, postfix: Postfix, authority: Authority) -> None:
    use(world, postfix, "client", secure=True, tls={"ca": authority.pem})
    (without,) = check(world)
    assert "client certificate" in (without.problem or "")
    world.write("DELETE FROM delivery.provider_configs")
    cert, key = authority.issue()
    use(world, postfix, "client", secure=True, tls={"ca": authority.pem, "cert": cert, "key": key})
    (checked,) = check(world)
    assert checked.problem is None


@pytest.mark.parametrize(("name", "reason"), [("greylisting", "Greylisted for 300 s"), ("postscreen", "450 4.3.2")])
def test_a_greylisted_message_is_deferred_and_sent_later(
    world: World, postfix: Postfix, name: str, reason: str
) -> None:
    use(world, postfix, name)
    addresses = recipients(world, 5)
    world.deliver(concurrency={"email": 2})
    assert set(world.states().values()) == {"deferred"}
    for row in world.ledger():
        assert row["reason"].startswith("the receiver asks to wait: ")
        assert reason in row["reason"]
    assert {world.job(name).get("atm", "0") for name in world.jobs_in("delayed")} == {"0"}
    world.hurry()
    world.deliver(concurrency={"email": 2})
    assert set(world.states().values()) == {"sent"}
    wait_until(lambda: sorted(arrived(world, postfix)) == sorted(addresses), "the messages")


def test_a_relays_own_limit_fails_no_message(world: World, postfix: Postfix) -> None:
    use(world, postfix, "limited")
    addresses = recipients(world, 20)
    world.deliver_within_limits()
    wait_until(lambda: sorted(arrived(world, postfix)) == sorted(addresses), "the messages")
    assert any(each["outcome"] == "rate-limited" for row in world.ledger() for each in row["attempts"])


def test_an_address_with_odd_dots_arrives(world: World, postfix: Postfix) -> None:
    use(world, postfix, "open")
    address = f"a..b.{world.organization.hex}@docomo.example"
    world.add(world.message(emailAddress=address))
    world.deliver()
    assert world.states() == {"d1": "sent"}
    wait_until(lambda: len(arrived(world, postfix)) == 1, "the message")
    assert arrived(world, postfix)[0].replace('"', "") == address


def test_processes_share_the_few_connections_that_a_server_takes(world: World, postfix: Postfix) -> None:
    """Each of the two opens five at first, and the idle ones of one keep the other out."""
    use(world, postfix, "two")
    addresses = recipients(world, 200)
    processes = [start(world, concurrency=5) for _ in range(2)]
    wait_until(lambda: Counter(world.states().values())["sent"] == 200, "the first messages")
    refused = attempts_refused(world)
    world.add(*(world.message(f"e{n:03}", emailAddress=f"more.{each}") for n, each in enumerate(addresses)))
    wait_until(lambda: Counter(world.states().values())["sent"] == 400, "the others")
    for process in processes:
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 0
    # They have learned how many they may have; one more is tried now and then.
    assert attempts_refused(world) - refused <= 10
    assert {world.job(name)["atm"] for name in world.jobs_in("completed")} == {"1"}, "no attempt is spent on it"
    assert world.session.rows(b"SELECT * FROM mauntic_jobs.provider_pauses") == []
    wait_until(lambda: len(arrived(world, postfix)) == 400, "all of them")
    assert len(set(arrived(world, postfix))) == 400


def attempts_refused(world: World) -> int:
    return sum(attempt["outcome"] == "rate-limited" for row in world.ledger() for attempt in row["attempts"])
