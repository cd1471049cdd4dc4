"""Configurations of providers as tenants write them."""

from uuid import UUID, uuid4

import pytest

from mauntic_jobs.delivery.sending.allowed_networks import Network
from mauntic_jobs.delivery.sending.providers.idle import IdleConnections
from mauntic_jobs.delivery.sending.providers.smtp import SmtpProvider
from mauntic_jobs.ops.providers.list import ConfiguredProvider, list_providers
from mauntic_jobs.settings.settings import Settings
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.world.corpus import Case, each_case

_CHANNELS = {"twilio": "sms", "fcm": "push"}


def configured(world: World, kind: str, config: str) -> ConfiguredProvider:
    """Store a configuration as it is, and return what is read."""
    world.write(
        "INSERT INTO delivery.provider_configs (organization_id, channel, provider_type, config)"
        " VALUES (%(organization)s, %(channel)s, %(kind)s, %(config)s::jsonb)",
        channel=_CHANNELS.get(kind, "email"),
        kind=kind,
        config=config,
    )
    (provider,) = list_providers(world.session, Settings())
    return provider


@each_case("provider_configs")
def test_a_configuration_is_read_as_it_is_meant(case: Case, world: World) -> None:
    provider = configured(world, case.input["type"], case.input["config"])
    problem, answer = case.answer.get("problem"), case.answer
    assert (problem in (provider.problem or "")) if problem else provider.problem is None
    assert sorted(provider.ignored) == answer.get("ignored", [])
    assert sorted(provider.unknown) == answer.get("unknown", [])
    if provider.config and not problem:
        assert {name: provider.config.values[name] for name in answer.get("values", {})} == answer.get("values", {})
        if provider.type == "custom_smtp":
            server = SmtpProvider(
                provider.config, Network(()), hello="here.test", timeout=1, idle=IdleConnections()
            )._server
            for part, meant in ((server, answer.get("server", {})), (server.tls, answer.get("tls", {}))):
                assert {name: getattr(part, name) for name in meant} == meant


def test_a_message_goes_out_by_a_configuration_in_another_form(world: World, sink: Sink) -> None:
    text = f'{{"host": "{sink.host}", "port": "{sink.port}", "from": "news@acme.test", "name": "mail.acme.test"}}'
    world.write(
        "INSERT INTO delivery.provider_configs (organization_id, channel, provider_type, config)"
        " VALUES (%(organization)s, 'email', 'custom_smtp', to_jsonb(%(text)s::text))",
        text=text,
    )
    world.add(world.message())
    world.deliver()
    assert world.states() == {"d1": "sent"}
    assert sink.messages()[0].mail_from == "news@acme.test"


def test_without_tls_nothing_goes_out_where_it_is_required(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port, require_tls=True)
    world.add(world.message())
    world.deliver()
    (row,) = world.ledger()
    assert (row["state"], sink.messages()) == ("deferred", [])
    assert row["reason"] == f"{sink.host} offers no TLS, and requireTLS asks for it"


def deep(levels: int, inner: str = "1") -> str:
    return '{"a":' * levels + inner + "}" * levels


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ('{"host": "a.test", "n": ' + "9" * 5_001 + "}", "its configuration holds a number that is too long"),
        (deep(3_000), "its configuration is nested too deep"),
        (deep(900), "its configuration is nested too deep"),
        (f'"{{\\"a\\": {"9" * 5_001}}}"', "its configuration is not JSON"),
        ('"' + deep(3_000).replace('"', '\\"') + '"', "its configuration is not JSON"),
    ],
    ids=["long number", "deep", "less deep", "long number in a text", "deep in a text"],
)
def test_a_configuration_that_cannot_be_read_defers_its_organizations_messages_only(
    world: World, sink: Sink, config: str, reason: str
) -> None:
    own, world.organization = world.organization, uuid4()
    other: UUID = world.organization
    world.provider(sink.host, sink.port)
    world.add(world.message("theirs"))
    world.organization = own
    provider = configured_of(world, config)
    world.add(world.message("ours"))
    world.deliver()
    rows = {row["organization_id"]: row for row in world.ledger()}
    assert (rows[other]["state"], rows[own]["state"]) == ("sent", "deferred")
    assert rows[own]["reason"] in (f"custom_smtp {provider}: {reason}", f"custom_smtp {provider}: {_OTHER[reason]}")


# Python's parser of JSON has become iterative for some shapes in later versions.
_OTHER = {
    "its configuration is not JSON": "its configuration is nested too deep",
    "its configuration is nested too deep": "its configuration is JSON that is nested too deep",
    "its configuration holds a number that is too long": "its configuration cannot be read",
}


def configured_of(world: World, config: str) -> UUID:
    provider = uuid4()
    world.write(
        "INSERT INTO delivery.provider_configs (id, organization_id, channel, provider_type, config)"
        " VALUES (%(id)s, %(organization)s, 'email', 'custom_smtp', %(config)s::jsonb)",
        id=provider,
        config=config,
    )
    return provider
