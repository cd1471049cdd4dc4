"""`providers check`: each provider is tried, and nothing is sent unless somebody asks for it."""

import asyncio
import json
from collections.abc import Iterator
from uuid import uuid4

import pytest

from mauntic_jobs.config import Settings
from mauntic_jobs.errors import UsageError
from mauntic_jobs.ops.provider_check import Check, channel_of, check_providers
from mauntic_jobs.ops.providers import list_providers
from tests.delivery.fake_api import FakeApi, Reply, Taken, running_api
from tests.delivery.sink import Sink
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


def add(world: World, channel: str, kind: str, config: dict[str, str]) -> None:
    world.write(
        "INSERT INTO delivery.provider_configs (organization_id, channel, provider_type, config)"
        " VALUES (%(organization)s, %(channel)s, %(kind)s, %(config)s::jsonb)",
        channel=channel,
        kind=kind,
        config=json.dumps(config),
    )


def check(world: World, address: str | None = None) -> dict[str, Check]:
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
