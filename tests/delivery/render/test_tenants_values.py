"""Values that Postgres holds and Python cannot, in every column that a tenant writes and deliveries read."""

import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from mauntic_jobs.delivery.ledger.queries import show_delivery
from tests.delivery import fake_fcm
from tests.delivery.sink import Sink
from tests.delivery.world import World

_LONG = "9" * 5_001
_DEEP = '{"a":' * 3_000 + "1" + "}" * 3_000
_TIMES = ["infinity", "-infinity", "4713-01-01 BC", "12000-01-01"]
_JSON = {
    "a long number": f'{{"n": {_LONG}}}',
    "a long fraction": f'{{"n": 0.{_LONG}}}',
    "deep": _DEEP,
    "a list": "[1, 2]",
    "a text": '"text"',
    "a number": _LONG,
    "null": "null",
}


@pytest.fixture
def neighbour(world: World, sink: Sink) -> UUID:
    """Return another organization, with a message in the same batch that refers to all there is."""
    own, world.organization = world.organization, uuid4()
    other = world.organization
    world.provider(sink.host, sink.port)
    world.write("INSERT INTO delivery.sending_domains (organization_id, domain) VALUES (%(organization)s, 'acme.test')")
    contact = world.contact(first_name="Bo", custom_fields='{"plan": "pro"}', email="bo@example.com")
    template = world.template(subject="Hi {{firstName}}", body_html="<p>{{plan}}</p>")
    world.add(_referring(world, "theirs", contact, template))
    world.organization = own
    return other


def _referring(world: World, delivery: str, contact: UUID, template: UUID) -> dict[str, Any]:
    refers = {"contactId": str(contact), "templateId": str(template)}
    return world.message(delivery, **refers, emailAddress=..., subject=..., html=...)


def outcome(world: World, neighbour: UUID) -> tuple[str, str]:
    """Return the state and the reason of our message, once the neighbour's is known to have been sent."""
    rows = {row["organization_id"]: row for row in world.ledger()}
    assert (rows[neighbour]["state"], rows[neighbour]["reason"]) == ("sent", None)
    own = rows[world.organization]
    return own["state"], own["reason"] or ""


@pytest.mark.parametrize("value", _JSON)
def test_custom_fields_of_a_contact(world: World, sink: Sink, neighbour: UUID, value: str) -> None:
    world.provider(sink.host, sink.port)
    contact = world.contact(first_name="Ann", custom_fields=_JSON[value])
    template = world.template(subject="Hi {{firstName}}", body_html="<p>{{plan}}</p>")
    world.add(_referring(world, "ours", contact, template))
    world.deliver()
    state, reason = outcome(world, neighbour)
    if value in ("a long number", "deep", "a number"):
        assert (state, reason.partition(" cannot be read: ")[0]) == ("failed", f"the contact {contact}")
        assert "custom_fields" in reason
    else:
        assert (state, reason) == ("sent", "")


@pytest.mark.parametrize("column", ["created_at", "updated_at", "last_activity_at"])
@pytest.mark.parametrize("value", _TIMES)
def test_times_of_a_contact(world: World, sink: Sink, neighbour: UUID, column: str, value: str) -> None:
    world.provider(sink.host, sink.port)
    contact = world.contact(**{column: value})
    template = world.template(subject="Hi", body_html="<p>{{firstName}}</p>")
    world.add(_referring(world, "ours", contact, template))
    world.deliver()
    assert outcome(world, neighbour) == ("sent", "")


@pytest.mark.parametrize("value", _TIMES)
def test_times_of_templates_providers_and_domains(world: World, sink: Sink, neighbour: UUID, value: str) -> None:
    world.provider(sink.host, sink.port)
    world.write(
        "UPDATE delivery.provider_configs SET created_at = %(at)s, updated_at = %(at)s"
        " WHERE organization_id = %(organization)s",
        at=value,
    )
    world.write(
        "INSERT INTO delivery.sending_domains (organization_id, domain, created_at, verified_at, dns_records)"
        " VALUES (%(organization)s, 'acme.test', %(at)s, %(at)s, %(records)s::jsonb)",
        at=value,
        records=_JSON["a long number"],
    )
    template = world.template(
        subject="Hi", body_html="<p>Hi</p>", created_at=value, updated_at=value, body_json=_JSON["deep"]
    )
    world.add(_referring(world, "ours", world.contact(), template))
    world.deliver()
    assert outcome(world, neighbour) == ("sent", "")


@pytest.mark.parametrize("value", _TIMES)
def test_times_of_suppressions_and_events(world: World, sink: Sink, neighbour: UUID, value: str) -> None:
    world.provider(sink.host, sink.port)
    contact = world.contact(email="ann@example.com")
    world.write(
        "INSERT INTO delivery.suppressions (organization_id, email, reason, created_at)"
        " VALUES (%(organization)s, 'other@example.com', 'manual', %(at)s)",
        at=value,
    )
    world.write(
        "INSERT INTO delivery.delivery_events (job_id, organization_id, contact_id, channel, event_type, metadata,"
        " created_at) VALUES (gen_random_uuid(), %(organization)s, %(contact)s, 'email', 'opened', %(data)s::jsonb,"
        " %(at)s)",
        contact=contact,
        data=f'{{"deliveryId": "{world.key("ours")}", "n": {_LONG}}}',
        at=value,
    )
    world.add(world.message("ours", contactId=str(contact)))
    world.deliver()
    assert outcome(world, neighbour) == ("sent", "")
    shown = show_delivery(world.session, world.key("ours"), world.organization)
    assert len(shown["events"]) == 2
    json.dumps(shown, default=str)


@pytest.mark.parametrize("field", ["templateData", "data", "unknown"])
@pytest.mark.parametrize("value", ["a long number", "a long fraction", "deep"])
def test_payloads(world: World, sink: Sink, neighbour: UUID, field: str, value: str) -> None:
    world.provider(sink.host, sink.port)
    world.add(world.message("ours", html="<p>{{n}}</p>"), ids=["j1"])
    data = json.dumps(world.message("ours", html="<p>{{n}}</p>"))
    world.ask("HSET", f"{world.base}:j1", "data", data[:-1] + f', "{field}": {_JSON[value]}}}')
    world.deliver()
    if world.jobs_in("failed"):
        rows = {row["organization_id"]: row["state"] for row in world.ledger()}
        assert rows[neighbour] == "sent"
        assert "the data" in world.job("j1")["failedReason"]
    else:
        assert outcome(world, neighbour) == ("sent", "")


@pytest.mark.parametrize("value", ["a long number", "deep"])
def test_data_of_a_push_message(world: World, value: str) -> None:
    world.channel = "push"
    world.point(fcm="http://127.0.0.1:1", google_token="http://127.0.0.1:1")  # noqa: S106 - an address
    world.provider_of("push", "fcm", fake_fcm.config())
    world.add(world.message("ours"), ids=["j1"])
    data = json.dumps(world.message("ours"))
    world.ask("HSET", f"{world.base}:j1", "data", data[:-1] + f', "data": {_JSON[value]}}}')
    world.deliver()
    reason = world.job("j1")["failedReason"] if world.jobs_in("failed") else ""
    assert "Error" not in reason
    assert world.jobs_in("failed") == ["j1"]
    assert "data" in reason
