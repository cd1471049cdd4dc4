"""Text messages: phone numbers, what a text is on the air, and the whole way from the queue to Twilio."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from mauntic_jobs.delivery.ledger.ledger import Ledger
from mauntic_jobs.delivery.render.renderer import WritingError
from mauntic_jobs.delivery.render.sms import e164, segments, sender_of
from mauntic_jobs.stores.postgres.async_link import PostgresLink
from tests.delivery import fake_twilio
from tests.delivery.fake_api import FakeApi, Fault, running_api
from tests.delivery.fake_twilio import CONFIG, NUMBER, created, error, sent
from tests.delivery.world import World

ANN = "+15005550006"
GSM_7 = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡AZÄÖÑÜ§¿azäöñüà"


@pytest.fixture
def twilio() -> Iterator[FakeApi]:
    with running_api(fake_twilio.answer) as running:
        yield running


@pytest.fixture
def ready(world: World, twilio: FakeApi) -> World:
    """Return a world whose text messages go to the fake."""
    world.channel = "sms"
    world.point(twilio=twilio.url)
    world.provider_of("sms", "twilio", CONFIG)
    return world


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("+15005550006", ANN),
        (" +1 (500) 555-0006 ", ANN),
        ("\u202a+1 500 555 0006\u202c", ANN),
        ("\ufeff+15005550006\u200b\r\n", ANN),
        ("tel:+1.500.555.0006", ANN),
        ("+49 (0)151 23456789", "+4915123456789"),
        ("+44 1632 960961", "+441632960961"),
    ],
)
def test_a_phone_number_has_one_form(written: str, meant: str) -> None:
    assert e164(written) == meant


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("5005550006", "must begin with + and the code of its country"),
        ("0049 151 2345678", "must begin with + and the code of its country"),
        ("+999123456789", "must begin with + and the code of its country"),
        ("+1500555", "too short or too long for its country"),
        ("+1500555000600000", "too short or too long for its country"),
        ("+1 500 555 0006 ext 5", "has characters"),
        ("+15005550006,+15005550007", "has characters"),
        ("+1 800 FLOWERS", "has characters"),
        ("+15005550006\n\n+15005550007x", "has characters"),
        ("ann@example.com", "has characters"),
        ("+1", "too short"),
    ],
)
def test_what_is_no_phone_number_is_refused_without_repeating_it(written: str, reason: str) -> None:
    with pytest.raises(WritingError) as raised:
        e164(written)
    assert reason in str(raised.value)
    assert written not in str(raised.value)


@pytest.mark.parametrize("sender", ["+15005550001", "12345", "Acme", "A & B-Shop1"])
def test_a_message_may_be_from_a_number_a_short_code_or_a_name(sender: str) -> None:
    assert sender_of(sender) == sender


@pytest.mark.parametrize("sender", ["Acme & Partners", "5005550001", "Acme <news@acme.test>", "Ac\nme", "12", "Äcme"])
def test_a_message_may_not_be_from_anything_else(sender: str) -> None:
    with pytest.raises(WritingError):
        sender_of(sender)


# 3GPP TS 23.038 has the alphabets, TS 23.040 (9.2.3.24.1) what a header takes from each of several messages.
@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 1),
        (GSM_7, 1),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("a" * 459, 3),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("€" * 76 * 2, 2),
        ("€" * 77 * 2, 3),  # 153 is odd: an escape is not cut off from its character
        ("a" * 152 + "€" + "b" * 151, 2),
        ("a" * 152 + "€" + "b" * 152, 3),
        ("\f^{}\\[~]|€" * 8, 1),
        ("ç" + "a" * 69, 1),
        ("ç" + "a" * 70, 2),
        ("ш" * 134, 2),
        ("ш" * 135, 3),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
        ("😀" * 66, 2),
        ("😀" * 67, 3),  # 67 is odd: a character of two units is not cut in half
        ("`", 1),
        ("`" * 71, 2),
    ],
)
def test_a_text_is_so_many_messages_on_the_air(text: str, count: int) -> None:
    assert segments(text) == count


def test_a_campaigns_message_is_sent_recorded_and_counted(ready: World, twilio: FakeApi) -> None:
    job, contact = ready.campaign(1), ready.contact(first_name="Ann & Bo")
    ready.settings = ready.settings.model_copy(update={"record_activity": True})
    own = {"jobId": str(job), "contactId": str(contact), "campaignId": str(uuid4())}
    ready.add(ready.message(phoneNumber="+1 (500) 555-0006", body="Hi {{firstName}}!", **own), ids=["j1"])
    ready.deliver()
    assert sent(twilio) == [{"To": ANN, "From": NUMBER, "Body": "Hi Ann & Bo!"}]
    (row,) = ready.ledger()
    assert (row["state"], row["address"], row["payload"]) == ("sent", ANN, None)
    assert row["provider_message_id"].startswith("SM")
    assert [(each["outcome"], each["reason"]) for each in row["attempts"]] == [("accepted", "segments: 1")]
    assert ready.jobs_in("completed") == ["j1"]
    (event,) = ready.session.rows(b"SELECT * FROM delivery.delivery_events")
    assert (event["channel"], event["event_type"], event["contact_id"]) == ("sms", "sent", contact)
    assert event["provider_message_id"] == row["provider_message_id"]
    (counts,) = ready.session.rows(b"SELECT sent_count, failed_count, status FROM delivery.delivery_jobs")
    assert tuple(counts.values()) == (1, 0, "sent")
    (activity,) = ready.session.rows(b"SELECT event_type, event_source FROM analytics.contact_activity")
    assert activity == {"event_type": "sms_sent", "event_source": own["campaignId"]}


@pytest.mark.parametrize("queue", ["sms", "email"])
def test_a_journey_step_is_sent_to_its_contacts_phone_whichever_queue_it_is_on(
    ready: World, twilio: FakeApi, queue: str
) -> None:
    contact = ready.contact(first_name="Ann", phone="+1 500 555 0006")
    template = ready.template(body_text="Hi {{contact.firstName}}, {{{plan}}}", subject="not this")
    step = {"journeyExecutionId": str(uuid4()), "stepId": str(uuid4()), "channel": "sms"}
    base = {"organizationId": str(ready.organization), "contactId": str(contact), "templateId": str(template)}
    ready.channel = queue
    ready.add({**base, **step, "idempotencyKey": ready.key("s1")})
    ready.deliver()
    assert sent(twilio) == [{"To": ANN, "From": NUMBER, "Body": "Hi Ann,"}]
    (row,) = ready.ledger()
    assert (row["channel"], row["state"], row["address"]) == ("sms", "sent", ANN)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"phoneNumber": ..., "body": "Hi"}, "neither the message nor its contact has a phone number"),
        ({"phoneNumber": "5005550006"}, "the phone number must begin with + and the code of its country"),
        ({"phoneNumber": 15005550006}, "the phone number must begin with + and the code of its country"),
        ({"body": ...}, "neither the message nor a template has a text"),
        ({"body": " {{nothing}} "}, "its text is empty once it is filled in"),
        ({"body": "a" * 1531}, "its text takes 11 segments, and 10 are allowed"),
        ({"body": "{{#if x}}"}, "if"),
        ({"from": "Acme & Partners"}, "the sender is neither a phone number"),
    ],
)
def test_what_cannot_be_sent_is_failed_with_the_reason(
    ready: World, twilio: FakeApi, changes: dict[str, Any], reason: str
) -> None:
    ready.add(ready.message(**changes), ids=["j1"])
    ready.deliver()
    assert twilio.taken == []
    (row,) = ready.ledger()
    assert row["state"] == "failed"
    assert reason in row["reason"]
    assert ready.jobs_in("failed") == ["j1"]


def test_a_contacts_phone_without_its_country_fails_for_that_reason(ready: World, twilio: FakeApi) -> None:
    contact = ready.contact(phone="0500 555 0006")
    ready.add(ready.message(phoneNumber=..., contactId=str(contact)))
    ready.deliver()
    assert twilio.taken == []
    assert ready.ledger()[0]["reason"] == "the phone number must begin with + and the code of its country"


@pytest.mark.parametrize("suppressed", [ANN, "+1 (500) 555-0006"])
def test_a_suppressed_number_gets_nothing_whichever_way_it_is_written(
    ready: World, twilio: FakeApi, suppressed: str
) -> None:
    ready.write(
        "INSERT INTO delivery.suppressions (organization_id, email, reason)"
        " VALUES (%(organization)s, %(number)s, 'unsubscribe')",
        number=suppressed,
    )
    ready.add(ready.message(phoneNumber="+1 (500) 555-0006"))
    ready.deliver()
    assert twilio.taken == []
    assert ready.states() == {"d1": "suppressed"}


def test_a_recipient_who_has_answered_stop_is_suppressed(ready: World, twilio: FakeApi) -> None:
    twilio.answer = lambda _: error(400, 21610, f"The recipient {ANN} has unsubscribed")
    contact, job = ready.contact(), ready.campaign(1)
    ready.add(ready.message(contactId=str(contact), jobId=str(job)), ids=["j1"])
    ready.deliver()
    (row,) = ready.ledger()
    assert (row["state"], row["reject_reason"]) == ("failed", "unsubscribed")
    assert row["reason"] == "400 code 21610: The recipient <phone> has unsubscribed"
    assert ready.job("j1")["failedReason"] == row["reason"]
    suppressions = ready.session.rows(b"SELECT email, reason FROM delivery.suppressions")
    assert suppressions == [{"email": ANN, "reason": "unsubscribe"}]
    (event,) = ready.session.rows(b"SELECT event_type, metadata FROM delivery.delivery_events")
    assert (event["event_type"], event["metadata"]["rejectReason"]) == ("failed", "unsubscribed")
    (counts,) = ready.session.rows(b"SELECT sent_count, failed_count, status FROM delivery.delivery_jobs")
    assert tuple(counts.values()) == (0, 1, "failed")


def test_of_a_region_that_is_not_enabled_other_messages_know_nothing(ready: World, twilio: FakeApi) -> None:
    abroad = "+441632960961"
    twilio.answer = lambda taken: error(400, 21408) if fake_twilio.form(taken)["To"] == abroad else created()
    ready.add(*(ready.message(f"d{n}", phoneNumber=abroad if n < 8 else ANN) for n in range(9)))
    ready.deliver(concurrency={"sms": 1})
    assert list(ready.states().values()) == ["failed"] * 8 + ["sent"]
    assert not ready.session.rows(b"SELECT 1 FROM delivery.suppressions")


@pytest.mark.parametrize("fault", [Fault.RESET_AFTER_BODY, "500"])
def test_what_nobody_knows_of_is_held_for_a_human_and_never_sent_again(
    ready: World, twilio: FakeApi, fault: Any
) -> None:
    twilio.answer = lambda _: error(500, 20500) if fault == "500" else fault
    ready.add(ready.message(), ids=["j1"])
    ready.deliver()
    (row,) = ready.ledger()
    assert (row["state"], row["until"], row["resends"]) == ("ambiguous", None, 0)
    assert ready.jobs_in("failed") == ["j1"]
    assert "deliveries resolve" in ready.job("j1")["failedReason"]
    ready.add(ready.message(), ids=["j2"])
    ready.hurry()
    ready.deliver()
    assert len(sent(twilio)) == 1


def test_what_nobody_knew_of_was_sent_once_the_platform_has_heard_of_it(ready: World, twilio: FakeApi) -> None:
    contact, job = ready.contact(), ready.campaign(1)
    twilio.answer = lambda _: Fault.RESET_AFTER_BODY
    ready.add(ready.message(contactId=str(contact), jobId=str(job)))
    ready.deliver()
    assert ready.states() == {"d1": "ambiguous"}
    ready.write(
        "INSERT INTO delivery.delivery_events"
        " (job_id, organization_id, contact_id, channel, event_type, provider_message_id, created_at)"
        " VALUES (%(job)s, %(organization)s, %(contact)s, 'sms', 'delivered', 'SM1',"
        " clock_timestamp() AT TIME ZONE 'UTC')",
        job=job,
        contact=contact,
    )

    async def weigh() -> int:
        link = PostgresLink(ready.settings)
        settled = await Ledger(link, link, record_activity=False).weigh_evidence()
        await link.close()
        return settled

    assert asyncio.run(weigh()) == 1
    assert ready.states() == {"d1": "sent"}
    assert len(sent(twilio)) == 1


def test_a_number_of_one_provider_is_not_used_with_another(ready: World, twilio: FakeApi) -> None:
    other = {**CONFIG, "fromNumber": "+15005550002"}
    ready.provider_of("sms", "twilio", other, priority=5)
    twilio.answer = lambda taken: (
        error(401, 20003) if fake_twilio.form(taken)["From"] == other["fromNumber"] else created()
    )
    ready.add(ready.message())
    ready.deliver()
    assert [fields["From"] for fields in sent(twilio)] == [other["fromNumber"], NUMBER]
    assert ready.states() == {"d1": "sent"}


def test_a_short_limit_is_waited_for_and_spends_no_attempt(ready: World, twilio: FakeApi) -> None:
    replies = iter([error(429, 20429, after="1"), created()])
    twilio.answer = lambda _: next(replies)
    ready.add(ready.message(), ids=["j1"])
    ready.deliver()
    (row,) = ready.ledger()
    assert [each["outcome"] for each in row["attempts"]] == ["rate-limited", "accepted"]
    assert ready.job("j1").get("atm", "1") == "1"


def test_the_message_of_an_organization_without_twilio_waits(world: World) -> None:
    world.channel = "sms"
    world.add(world.message())
    world.deliver()
    (row,) = world.ledger()
    assert (row["state"], row["reason"]) == ("deferred", "the organization has no active provider for sms")
    assert row["until"] - datetime.now(UTC) > timedelta(minutes=4)
