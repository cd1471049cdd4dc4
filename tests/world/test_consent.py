"""Consent: which contacts must not get which messages."""

from typing import Any
from uuid import uuid4

import pytest

from mauntic_jobs.delivery.channels import CHANNELS
from tests.delivery import fake_fcm, fake_twilio
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.world.corpus import Case, each_case

_PHONE = "+1 (500) 555-0006"


def standing(world: World) -> tuple[str, str]:
    """Return the reason for which the only delivery was suppressed; empty if it may go out."""
    (row,) = world.ledger()
    return (row["reason"], row["state"]) if row["state"] == "suppressed" else ("", row["state"])


def suppress(world: World, address: str, reason: str) -> None:
    world.write(
        "INSERT INTO delivery.suppressions (organization_id, email, reason) VALUES (%(organization)s, %(address)s,"
        " %(reason)s)",
        address=address,
        reason=reason,
    )


@each_case("consent")
def test_the_contact_of_a_message_is_asked(case: Case, world: World, sink: Sink) -> None:
    given: dict[str, Any] = dict(case.input)
    world.channel = given.pop("channel", "email")
    transactional, suppression = given.pop("transactional", ...), given.pop("suppression", None)
    # Nothing listens at the APIs' addresses: what may go out by them is deferred.
    world.point(**dict.fromkeys(("twilio", "fcm", "google_token"), "http://127.0.0.1:1"))
    world.provider_of("sms", "twilio", fake_twilio.CONFIG)
    world.provider_of("push", "fcm", fake_fcm.config())
    world.provider(sink.host, sink.port)
    contact = world.contact(email="ann@example.com", phone=_PHONE, **given)
    if suppression:
        suppress(world, "ann@example.com", suppression)
    world.add(world.message(contactId=str(contact), transactional=transactional))
    world.deliver()
    reason, state = standing(world)
    assert reason == case.answer
    assert (state == "suppressed") == bool(case.answer)
    if world.channel == "email":
        assert len(sink.messages()) == (0 if case.answer else 1)


@pytest.mark.parametrize("kind", ["campaign", "journey", "sequence"])
def test_campaigns_journeys_and_sequences_are_checked_alike(world: World, sink: Sink, kind: str) -> None:
    world.provider(sink.host, sink.port)
    template = str(world.template(subject="Hi", body_html="<p>Hi</p>"))
    contact = str(world.contact(status="unsubscribed", email="ann@example.com"))
    base = {"organizationId": str(world.organization), "contactId": contact}
    key = world.key("d1")
    payload = {
        "campaign": world.message(contactId=contact),
        "journey": {**base, "templateId": template, "channel": "email", "idempotencyKey": key, "stepId": str(uuid4())},
        "sequence": {**base, "deliveryId": key, "subject": "Hi", "body": "Hi"},
    }[kind]
    world.add(payload)
    world.deliver()
    assert standing(world)[0] == "the contact's status is unsubscribed"
    assert sink.messages() == []


@pytest.mark.parametrize("named", ["nothing", "a contact that is gone", "a contact of another organization"])
def test_without_a_contact_its_address_is_looked_up(world: World, sink: Sink, named: str) -> None:
    world.provider(sink.host, sink.port)
    world.contact(email="Ann@Example.com", status="unsubscribed")
    world.contact(email="ann@example.com")
    own, world.organization = world.organization, uuid4()
    foreign = world.contact(email="ann@example.com")
    world.organization = own
    contact = {"nothing": ..., "a contact that is gone": str(uuid4())}.get(named, str(foreign))
    world.add(world.message(contactId=contact))
    world.deliver()
    assert standing(world)[0] == "the contact's status is unsubscribed"


def test_another_organizations_contact_of_the_same_address_says_nothing(world: World, sink: Sink) -> None:
    own, world.organization = world.organization, uuid4()
    world.contact(email="ann@example.com", status="unsubscribed")
    suppress(world, "ann@example.com", "unsubscribe")
    world.organization = own
    world.provider(sink.host, sink.port)
    world.add(world.message())
    world.deliver()
    assert (world.states(), len(sink.messages())) == ({"d1": "sent"}, 1)


@pytest.mark.parametrize("written", ["+15005550006", "+1 500-555-0006", "1 (500) 555 0006"])
def test_a_number_is_found_however_the_contact_has_it(world: World, written: str) -> None:
    world.channel = "sms"
    world.provider_of("sms", "twilio", fake_twilio.CONFIG)
    world.contact(phone=written, status="unsubscribed")
    world.add(world.message())
    world.deliver()
    assert standing(world)[0] == "the contact's status is unsubscribed"


def test_a_contact_that_opts_out_while_its_message_waits_gets_nothing(world: World, sink: Sink) -> None:
    world.provider("127.0.0.1", 1)
    contact = world.contact(email="ann@example.com")
    world.add(world.message(contactId=str(contact)))
    world.deliver()
    assert world.states() == {"d1": "deferred"}
    world.write(
        'UPDATE crm.contacts SET custom_fields = \'{"_consent_preferences": {"email": false}}\' WHERE id = %(contact)s',
        contact=contact,
    )
    world.provider(sink.host, sink.port, priority=1)
    world.hurry()
    world.deliver()
    assert (standing(world)[0], sink.messages()) == ("the contact refused email", [])


def test_a_suppressed_message_counts_as_failed_in_its_campaign(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    job = world.campaign(1)
    world.add(world.message(jobId=str(job), contactId=str(world.contact(status="bounced"))))
    world.deliver()
    (row,) = world.session.rows(b"SELECT sent_count, failed_count, status FROM delivery.delivery_jobs")
    assert (row["sent_count"], row["failed_count"], row["status"]) == (0, 1, "failed")


@pytest.mark.parametrize("channel", list(CHANNELS))
def test_a_number_of_any_length_in_custom_fields_stops_nothing(world: World, sink: Sink, channel: str) -> None:
    """Postgres reads the consent: Python cannot hold such a number."""
    world.provider(sink.host, sink.port)
    fields = f'{{"_consent_preferences": {{"{channel}": false}}, "n": {"9" * 5_001}}}'
    contact = world.contact(custom_fields=fields)
    world.write("UPDATE crm.contacts SET email = 'ann@example.com' WHERE id = %(contact)s", contact=contact)
    world.add(world.message(contactId=str(contact)))
    world.deliver()
    assert standing(world)[0] == ("the contact refused email" if channel == "email" else "")
