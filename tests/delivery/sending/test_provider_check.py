"""`providers check`: each provider is tried, and nothing is sent unless somebody asks for it."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from mauntic_jobs.errors import UsageError
from mauntic_jobs.ops.providers.check import ProviderTrial, channel_of, check_providers
from mauntic_jobs.ops.providers.list import list_providers
from mauntic_jobs.settings.settings import Settings
from tests.delivery.fake_api import FakeApi, Reply, Taken, running_api
from tests.delivery.sink import Sink, running_sink
from tests.delivery.world import World
from tests.support import run_program

ACCOUNT = "AC" + "0" * 32
TOKEN = "canary-token-0123456789"  # noqa: S105 - not a real one


def answer(taken: Taken) -> Reply:
    if TOKEN not in taken.headers.get("x-postmark-server-token", TOKEN):
        return Reply(401, {"ErrorCode": 10, "Message": f"no server has {taken.headers['x-postmark-server-token']}"})
    if taken.path == "/email":
        return Reply(body={"ErrorCode": 0, "MessageID": "m-1"})
    if taken.path.endswith("/Messages.json"):
        return Reply(201, {"sid": "SM1", "status": "queued"})
    return Reply(body={"ID": 1, "status": "active", "DeliveryType": "Live"})


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with running_api(answer) as running:
        yield running


@pytest.fixture
def ready(world: World, sink: Sink, api: FakeApi) -> World:
    """Return a world whose organization has an SMTP server, Postmark and Twilio."""
    urls = {"postmark": api.url, "twilio": api.url}
    world.settings = Settings(**{**world.settings.model_dump(), "provider_urls": urls})
    world.provider(sink.host, sink.port, priority=2)
    add(world, "email", "postmark", {"serverToken": TOKEN, "from": "news@acme.test"})
    add(world, "sms", "twilio", {"accountSid": ACCOUNT, "authToken": TOKEN, "fromNumber": "+12025550199"})
    return world


def add(world: World, channel: str, kind: str, config: dict[str, Any]) -> None:
    world.write(
        "INSERT INTO delivery.provider_configs (organization_id, channel, provider_type, config)"
        " VALUES (%(organization)s, %(channel)s, %(kind)s, %(config)s::jsonb)",
        channel=channel,
        kind=kind,
        config=json.dumps(config),
    )


def check(world: World, address: str | None = None) -> dict[str, ProviderTrial]:
    providers = list_providers(world.session, world.settings, world.organization)
    return {each.provider.type: each for each in asyncio.run(check_providers(world.settings, providers, address))}


def test_each_provider_is_logged_in_at_and_nothing_is_sent(ready: World, sink: Sink, api: FakeApi) -> None:
    checks = check(ready)
    assert {kind: each.problem for kind, each in checks.items()} == dict.fromkeys(("custom_smtp", "postmark", "twilio"))
    assert not any(each.sent for each in checks.values())
    assert sink.messages() == []
    assert sorted(taken.method for taken in api.taken) == ["GET", "GET"]


@pytest.mark.parametrize(("address", "kinds"), [("ann@example.com", 2), ("+12025550143", 1)])
def test_a_test_message_goes_out_by_each_provider_of_the_addresss_channel(
    ready: World, sink: Sink, api: FakeApi, address: str, kinds: int
) -> None:
    checks = check(ready, address)
    assert [each.problem for each in checks.values()] == [None] * 3
    assert sum(each.sent for each in checks.values()) == kinds
    assert len(sink.messages()) + sum(taken.method == "POST" for taken in api.taken) == kinds


def test_what_is_wrong_is_said_of_each_without_its_secrets(ready: World, api: FakeApi) -> None:
    ready.write("UPDATE delivery.provider_configs SET config = '{}' WHERE provider_type = 'twilio'")
    ready.write(
        "UPDATE delivery.provider_configs SET config = config || %(wrong)s::jsonb WHERE provider_type = 'postmark'",
        wrong=json.dumps({"serverToken": "canary-wrong-one"}),
    )
    ready.write(
        "UPDATE delivery.provider_configs SET config = config || '{\"port\": 9}' WHERE provider_type = 'custom_smtp'"
    )
    checks = check(ready)
    assert "accountSid is missing" in (checks["twilio"].problem or "")
    assert checks["postmark"].problem == "refused: 401 ErrorCode 10: no server has ***"
    assert "cannot connect" in (checks["custom_smtp"].problem or "")
    assert [taken.path for taken in api.taken] == ["/server"]


def smtp_check(world: World, sink: Sink) -> ProviderTrial:
    world.provider(sink.host, sink.port)
    return check(world)["custom_smtp"]


def test_an_smtp_server_is_asked_for_more_than_a_login_and_gets_no_message(world: World, sink: Sink) -> None:
    checked = smtp_check(world, sink)
    assert checked.problem is None
    assert checked.asked == "asked to send from its `from` to postmaster of example.com"
    assert sink.behaviour.heard[:4] == ["EHLO", "MAIL", "RCPT", "RSET"]
    assert "DATA" not in sink.behaviour.heard
    assert sink.messages() == []


@pytest.mark.parametrize(
    "refusal",
    [
        "554 5.7.1 <postmaster@example.com>: Relay access denied",
        "550 5.7.1 Unable to relay",
        "454 4.7.1 <postmaster@example.com>: Relay access denied",
        "530 5.7.0 Authentication required",
        "421 4.3.2 shutting down",
    ],
)
def test_a_server_that_may_not_be_used_without_a_login_does_not_work(world: World, sink: Sink, refusal: str) -> None:
    sink.behaviour.at_recipient = lambda _: refusal
    words = refusal.replace("<postmaster@example.com>", "<<address>>")
    problem = smtp_check(world, sink).problem or ""
    assert problem.startswith(f"refused: the recipient was refused: {words}")
    assert problem.endswith("It has no login: set username and password") is not refusal.startswith("421")


@pytest.mark.parametrize(
    "refusal",
    [
        "550 5.1.1 <postmaster@example.com>: Recipient address rejected: User unknown",
        "556 5.1.10 <postmaster@example.com>: Recipient address rejected: Domain does not accept mail (nullMX)",
        "450 4.2.0 <postmaster@example.com>: Recipient address rejected: Greylisted",
        "550 5.1.2 <postmaster@example.com>: Recipient address rejected: Domain not found",
        "450 4.1.1 <postmaster@example.com>: Recipient address rejected: unverified address",
    ],
)
def test_a_server_that_verifies_recipients_is_no_false_alarm(world: World, sink: Sink, refusal: str) -> None:
    sink.behaviour.at_recipient = lambda _: refusal
    checked = smtp_check(world, sink)
    assert checked.problem is None
    assert f"the recipient was refused: {refusal[:9]}" in checked.asked
    assert checked.asked.endswith("which need not be so for others")


def test_a_sender_that_is_refused_is_a_problem(world: World, sink: Sink) -> None:
    sink.behaviour.mail_reply = "553 5.7.1 <news@acme.test>: Sender address rejected: not owned by user"
    assert "the sender was refused: 553 5.7.1" in (smtp_check(world, sink).problem or "")


def test_a_server_that_asks_to_wait_says_so(world: World, sink: Sink) -> None:
    sink.behaviour.mail_reply = "451 4.7.1 greylisted"
    assert smtp_check(world, sink).problem == "it wants to be asked later: the sender was refused: 451 4.7.1 greylisted"


def test_without_a_sender_it_is_logged_in_only(world: World, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with running_sink(tmp_path / "other") as other:
        add(world, "email", "custom_smtp", {"host": other.host, "port": other.port})
        checked = check(world)["custom_smtp"]
        assert (checked.problem, "no `from`" in checked.asked) == (None, True)
        assert "MAIL" not in other.behaviour.heard


@pytest.mark.parametrize("address", ["ann@", "+1", "a@b.example, c@d.example"])
def test_an_address_of_no_channel_is_refused(address: str) -> None:
    with pytest.raises(UsageError):
        channel_of(address)


def test_the_command_says_what_works_and_exits_1_if_anything_does_not(ready: World) -> None:
    def run(*options: str) -> tuple[int, str]:
        urls = json.dumps(dict(ready.settings.provider_urls))
        variables = {"MAUNTIC_PROVIDER_URLS": urls, "MAUNTIC_ALLOWED_NETWORKS": "127.0.0.0/8"}
        done = run_program("providers", "check", *options, settings=ready.settings, **variables)
        return done.returncode, done.stdout + done.stderr

    status, said = run()
    assert (status, said.count("works")) == (0, 3)
    status, said = run("--org", str(uuid4()))
    assert (status, said) == (0, "no provider is active\n")
    assert run("--send-to", "ann@example.com")[0] == 2
    ready.write("UPDATE delivery.provider_configs SET config = '{}' WHERE provider_type = 'twilio'")
    status, said = run("--json", "--org", str(ready.organization))
    assert status == 1
    assert TOKEN not in said
