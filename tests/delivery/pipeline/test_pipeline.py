"""The whole way of an email: from the queue to the sink, and into the ledger and the platform's tables."""

from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from typing import Any
from uuid import uuid4

import pytest

from mauntic_jobs.settings.types import ChannelSettings
from mauntic_jobs.warmup.keys import keys
from tests.delivery.sink import Sink
from tests.delivery.world import World, sent_by_node


@pytest.fixture
def ready(world: World, sink: Sink) -> World:
    """Return a world whose provider is the sink."""
    world.provider(sink.host, sink.port)
    return world


def test_a_message_is_sent_once_and_recorded(ready: World, sink: Sink) -> None:
    ready.add(ready.message(), ids=["j1"])
    ready.deliver()
    (received,) = sink.messages()
    assert received.recipients == ("ann@example.com",)
    assert received.mail_from == "news@acme.test"
    (row,) = ready.ledger()
    assert (row["state"], row["address"], row["payload"]) == ("sent", "ann@example.com", None)
    assert [each["outcome"] for each in row["attempts"]] == ["accepted"]
    assert row["message_id"] == received.message_id
    assert ready.jobs_in("completed") == ["j1"]
    assert ready.job("j1")["returnvalue"] == '"sent"'
    assert ready.ask("GET", ready.mark("d1"))


def test_its_event_names_it_as_webhooks_do(ready: World, sink: Sink) -> None:
    ready.add(ready.message(contactId=str(ready.contact())))
    ready.deliver()
    (event,) = ready.session.rows(b"SELECT provider_message_id, metadata FROM delivery.delivery_events")
    (row,) = ready.ledger()
    assert event["provider_message_id"] == sink.messages()[0].message_id == row["provider_message_id"]
    assert event["metadata"] == {
        "engine": "mauntic-jobs",
        "deliveryId": ready.key("d1"),
        "messageId": row["message_id"],
        "provider": "custom_smtp",
    }
    assert row["attempts"][0]["provider"] == row["provider"]


def test_a_second_job_for_the_same_delivery_sends_nothing(ready: World, sink: Sink) -> None:
    ready.add(ready.message(), ready.message(), ids=["j1", "j2"])
    ready.deliver()
    ready.ask("DEL", ready.mark("d1"))
    ready.add(ready.message(), ids=["j3"])
    ready.deliver()
    # For a Node engine, which is to know it as well.
    assert ready.ask("GET", ready.mark("d1"))
    assert len(sink.messages()) == 1
    assert sorted(ready.jobs_in("completed")) == ["j1", "j2", "j3"]


def test_the_same_delivery_id_of_another_organization_is_another_delivery(ready: World, sink: Sink) -> None:
    ready.add(ready.message("d2"), ids=["j1"])
    ready.deliver()
    ready.organization = uuid4()
    ready.provider(sink.host, sink.port)
    ready.add(ready.message("d2"), ids=["j2"])
    ready.deliver()
    assert len(sink.messages()) == 2
    assert len({each.message_id for each in sink.messages()}) == 2


@pytest.mark.parametrize("address", ["ann@example.com", "policy-550@example.com"])
def test_another_organizations_campaign_is_left_alone(ready: World, address: str) -> None:
    own, ready.organization = ready.organization, uuid4()
    job = ready.campaign(1)
    ready.organization = own
    ready.add(ready.message(jobId=str(job), contactId=str(ready.contact()), emailAddress=address))
    ready.deliver()
    assert ready.ledger()[0]["state"] in ("sent", "failed")
    (row,) = ready.session.rows(b"SELECT sent_count, failed_count, status, completed_at FROM delivery.delivery_jobs")
    assert tuple(row.values()) == (0, 0, "queued", None)


def test_what_the_node_engine_has_sent_is_not_sent_again(ready: World, sink: Sink) -> None:
    job = ready.campaign(1)
    ready.ask("SET", ready.mark("d3"), "sent")
    ready.add(ready.message("d3", jobId=str(job), contactId=str(uuid4())))
    ready.deliver()
    assert sink.messages() == []
    assert ready.states() == {"d3": "sent"}
    # Node has counted it.
    assert ready.session.rows(b"SELECT sent_count FROM delivery.delivery_jobs")[0]["sent_count"] == 0
    assert not ready.session.rows(b"SELECT 1 FROM delivery.delivery_events")


def test_a_journey_step_is_sent_to_its_contact_with_its_template(ready: World, sink: Sink) -> None:
    contact = ready.contact(first_name="Ann & Bo", email="Ann@Example.com", custom_fields='{"plan": "pro"}')
    template = ready.template(
        subject="Hi {{firstName}}", body_html="<p>{{contact.firstName}} {{plan}}</p>", body_text="{{firstName}}!"
    )
    step = {
        "journeyExecutionId": str(uuid4()),
        "stepId": str(uuid4()),
        "channel": "email",
        "idempotencyKey": ready.key("s1"),
    }
    base = {"organizationId": str(ready.organization), "contactId": str(contact), "templateId": str(template)}
    ready.add({**base, **step})
    ready.deliver()
    (received,) = sink.messages()
    parsed: Any = message_from_bytes(received.content, policy=policy.default)
    assert parsed["subject"] == "Hi Ann & Bo"
    assert parsed["to"] == "Ann@example.com"
    text, html = (part.get_content().strip() for part in parsed.iter_parts())
    assert (text, html) == ("Ann & Bo!", "<p>Ann &amp; Bo pro</p>")
    assert ready.states() == {"s1": "sent"}


def test_a_template_of_another_organization_is_not_used(ready: World, sink: Sink) -> None:
    own, ready.organization = ready.organization, uuid4()
    template = ready.template(subject="secret", body_html="<p>secret</p>")
    ready.organization = own
    ready.add(ready.message(templateId=str(template), html=..., subject=...))
    ready.deliver()
    assert sink.messages() == []
    assert ready.ledger()[0]["reason"] == f"the organization has no template {template}"


def test_suppressed_addresses_get_nothing(ready: World, sink: Sink) -> None:
    ready.write(
        "INSERT INTO delivery.suppressions (organization_id, email, reason)"
        " VALUES (%(organization)s, 'ann@example.com', 'unsubscribe')"
    )
    ready.add(ready.message(emailAddress="Ann@Example.COM"), ids=["j1"])
    ready.deliver()
    assert sink.messages() == []
    assert ready.states() == {"d1": "suppressed"}
    assert ready.jobs_in("completed") == ["j1"]


def test_a_message_that_is_too_old_expires(ready: World, sink: Sink) -> None:
    ready.add(ready.message())
    ready.deliver(max_age=timedelta(0))
    assert sink.messages() == []
    assert ready.states() == {"d1": "expired"}
    (row,) = ready.ledger()
    assert row["reason"] == "it was 0 h old when its turn came (limit 0s)"
    assert row["payload"]["deliveryId"] == ready.key("d1")
    assert [(what, reason) for what, _, reason in ready.reported] == [("expired", row["reason"])]


def test_a_recipient_who_does_not_exist_is_failed_at_once_and_suppressed(ready: World) -> None:
    ready.add(ready.message(emailAddress="reject-550@example.com"), ids=["j1"])
    ready.deliver()
    (row,) = ready.ledger()
    assert row["state"] == "failed"
    assert "550 5.1.1 no such user" in row["reason"]
    assert ready.jobs_in("failed") == ["j1"]
    rows = ready.session.rows(b"SELECT email, reason FROM delivery.suppressions")
    assert rows == [{"email": "reject-550@example.com", "reason": "bounce"}]


def test_a_refusal_by_policy_does_not_suppress(ready: World) -> None:
    ready.add(ready.message(emailAddress="policy-550@example.com"))
    ready.deliver()
    assert ready.states() == {"d1": "failed"}
    assert ready.session.rows(b"SELECT email FROM delivery.suppressions") == []


def test_a_temporary_failure_is_tried_again_by_the_policy(ready: World, sink: Sink) -> None:
    ready.add(ready.message(emailAddress="drop-rcpt-once@example.com"), ids=["j1"])
    ready.deliver()
    assert len(sink.messages()) == 1
    (row,) = ready.ledger()
    assert [each["outcome"] for each in row["attempts"]] == ["temporary", "accepted"]
    assert ready.jobs_in("completed") == ["j1"]
    assert ready.job("j1")["atm"] == "2"


def test_after_the_last_attempt_it_has_failed(ready: World) -> None:
    policy = ChannelSettings(attempts=2, retry_delay=timedelta(milliseconds=1))
    ready.settings = ready.settings.model_copy(update={"channels": {"email": policy}})
    message = ready.message(emailAddress="drop-rcpt@example.com")
    ready.add(message, ids=["j1"])
    ready.ask("HSET", f"{ready.base}:j1", "opts", "{}")
    ready.deliver()
    (row,) = ready.ledger()
    assert row["state"] == "failed"
    assert row["reason"].startswith("given up after 2 attempts: 127.0.0.1: the connection was")
    assert ready.jobs_in("failed") == ["j1"]


def test_a_provider_that_shuts_down_is_passed_over(ready: World, sink: Sink) -> None:
    ready.provider("127.0.0.1", 1, priority=5)
    ready.add(ready.message())
    ready.deliver()
    assert len(sink.messages()) == 1
    (row,) = ready.ledger()
    assert [each["outcome"] for each in row["attempts"]] == ["provider", "accepted"]
    assert row["state"] == "sent"


def test_without_a_provider_that_works_messages_wait(world: World, sink: Sink) -> None:
    world.provider("127.0.0.1", 1)
    world.add(world.message(), ids=["j1"])
    world.deliver()
    (row,) = world.ledger()
    assert row["state"] == "deferred"
    assert "cannot connect" in row["reason"]
    assert world.jobs_in("delayed") == ["j1"]
    assert world.job("j1").get("atm", "0") == "0"
    world.provider(sink.host, sink.port, priority=1)
    world.hurry()
    world.deliver()
    assert world.states() == {"d1": "sent"}


def test_a_provider_with_an_impossible_sender_is_passed_over(ready: World, sink: Sink) -> None:
    provider = ready.provider(sink.host, sink.port, priority=5, **{"from": "Acme"})
    ready.add(ready.message())
    ready.deliver()
    assert ready.states() == {"d1": "sent"}
    (said,) = ready.said
    assert said.startswith(f"custom_smtp {provider}: from: it is not an email address")


def test_without_any_provider_messages_wait(world: World) -> None:
    world.add(world.message())
    world.deliver()
    (row,) = world.ledger()
    assert (row["state"], row["reason"]) == ("deferred", "the organization has no active provider for email")


def test_a_reply_lost_after_the_content_is_ambiguous_and_sent_again_once(ready: World, sink: Sink) -> None:
    ready.add(ready.message(emailAddress="drop-after-dot-once@example.com"), ids=["j1"])
    ready.deliver()
    (row,) = ready.ledger()
    assert row["state"] == "ambiguous"
    assert timedelta(seconds=110) < row["until"] - datetime.now(UTC) <= timedelta(seconds=120)
    assert ready.jobs_in("delayed") == ["j1"]
    ready.hurry()
    ready.deliver()
    (row,) = ready.ledger()
    assert (row["state"], row["possible_duplicate"], row["resends"]) == ("sent", True, 1)
    first, second = sink.messages()
    assert first.message_id == second.message_id


def test_what_is_ambiguous_twice_is_left_to_a_human(ready: World, sink: Sink) -> None:
    ready.add(ready.message(emailAddress="drop-after-dot@example.com"), ids=["j1"])
    ready.deliver()
    ready.hurry()
    ready.deliver()
    (row,) = ready.ledger()
    assert (row["state"], row["until"], row["resends"]) == ("ambiguous", None, 1)
    assert ready.jobs_in("failed") == ["j1"]
    assert "deliveries resolve" in ready.job("j1")["failedReason"]
    assert len(sink.messages()) == 2


def test_what_the_platform_has_heard_of_is_not_sent_again(ready: World, sink: Sink) -> None:
    contact = ready.contact()
    ready.add(ready.message(emailAddress="drop-after-dot@example.com", contactId=str(contact)), ids=["j1"])
    ready.deliver()
    ready.write(
        "INSERT INTO delivery.delivery_events"
        " (job_id, organization_id, contact_id, channel, event_type, provider_message_id, created_at) VALUES"
        " (gen_random_uuid(), %(organization)s, %(contact)s, 'email', 'delivered', %(message)s,"
        " clock_timestamp() AT TIME ZONE 'UTC')",
        contact=contact,
        message=sink.messages()[0].message_id.strip("<>"),
    )
    ready.hurry()
    ready.deliver()
    assert ready.states() == {"d1": "sent"}
    assert len(sink.messages()) == 1


def test_a_campaign_is_counted_and_closed(ready: World) -> None:
    job = ready.campaign(3)
    contact = ready.contact()
    own: dict[str, Any] = {"jobId": str(job), "contactId": str(contact)}
    ready.add(ready.message("d1", **own), ready.message("d2", **own))
    ready.deliver()
    row = ready.session.rows(b"SELECT * FROM delivery.delivery_jobs")[0]
    assert (row["sent_count"], row["failed_count"], row["status"], row["completed_at"]) == (2, 0, "sending", None)
    ready.add(ready.message("d3", **own, emailAddress="reject-550@example.com"))
    ready.deliver()
    row = ready.session.rows(b"SELECT * FROM delivery.delivery_jobs")[0]
    assert (row["sent_count"], row["failed_count"], row["status"]) == (2, 1, "partial")
    assert row["completed_at"] is not None
    events = ready.session.rows(
        b"SELECT event_type, count(*) AS count FROM delivery.delivery_events GROUP BY 1 ORDER BY 1"
    )
    assert [(each["event_type"], each["count"]) for each in events] == [("failed", 1), ("sent", 2)]


@pytest.mark.parametrize("recipients", [0, 1])
def test_a_campaign_may_have_more_messages_than_it_said(ready: World, recipients: int) -> None:
    job = ready.campaign(recipients)
    own: dict[str, Any] = {"jobId": str(job), "contactId": str(ready.contact())}
    ready.add(ready.message("d1", **own))
    ready.deliver()
    first = ready.session.rows(b"SELECT * FROM delivery.delivery_jobs")[0]
    assert (first["sent_count"], first["status"]) == (1, "sent")
    ready.add(ready.message("d2", **own), ready.message("d3", **own, emailAddress="policy-550@example.com"))
    ready.deliver()
    row = ready.session.rows(b"SELECT * FROM delivery.delivery_jobs")[0]
    assert (row["sent_count"], row["failed_count"], row["status"]) == (2, 1, "partial")
    assert row["completed_at"] == first["completed_at"]


def test_a_campaign_that_nobody_knows_is_no_obstacle(ready: World, sink: Sink) -> None:
    ready.add(ready.message(jobId=str(uuid4()), contactId=str(uuid4())))
    ready.deliver()
    assert len(sink.messages()) == 1


def test_activity_is_recorded_only_where_it_is_wanted(ready: World) -> None:
    contact = ready.contact()
    ready.add(ready.message("d1", contactId=str(contact)))
    ready.deliver()
    assert ready.session.rows(b"SELECT 1 FROM analytics.contact_activity") == []
    ready.settings = ready.settings.model_copy(update={"record_activity": True})
    ready.add(ready.message("d2", contactId=str(contact), campaignId=str(job := uuid4())))
    ready.deliver()
    (row,) = ready.session.rows(b"SELECT * FROM analytics.contact_activity")
    assert (row["event_type"], row["event_source"], row["contact_id"]) == ("email_sent", str(job), contact)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"emailAddress": "a@example.com, b@example.com"}, "is not an email address"),
        ({"emailAddress": "a@example.com\r\nBcc: b@example.com"}, "is not an email address"),
        ({"headers": {"Bcc": "b@example.com"}}, "the header Bcc cannot be set"),
        ({"headers": {"X-A": "1\r\nBcc: b@example.com"}}, "the value of the header X-A has control characters"),
        ({"headers": {"X-A: 1\r\nBcc": "b@example.com"}}, "is not the name of a header"),
        ({"emailAddress": ...}, "neither the message nor its contact has an email address"),
        ({"html": ...}, "neither the message nor a template has content"),
        ({"html": "{{#if x}}"}, "if"),
        ({"from": "nobody"}, "is not an email address"),
        ({"unsubscribeUrl": "https://a.example/>\r\nBcc: x"}, "the unsubscribe URL"),
    ],
)
def test_what_cannot_be_sent_is_failed_with_the_reason(
    ready: World, sink: Sink, changes: dict[str, Any], reason: str
) -> None:
    ready.add(ready.message(**changes), ids=["j1"])
    ready.deliver()
    assert sink.messages() == []
    (row,) = ready.ledger()
    assert row["state"] == "failed"
    assert reason in row["reason"]
    assert ready.jobs_in("failed") == ["j1"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("{", "the data cannot be read"),
        ("[]", "the data cannot be read"),
        ('{"deliveryId": "d1"}', "organizationId: Field required"),
        ('{"organizationId": "8d1f0bb2-7f3c-4d36-8f52-2f1b6f1b6a3f"}', "neither deliveryId nor idempotencyKey"),
        (
            '{"organizationId": "8d1f0bb2-7f3c-4d36-8f52-2f1b6f1b6a3f", "deliveryId": "d", "channel": "fax"}',
            "there is no channel 'fax'",
        ),
        ('{"html": "' + "x" * 1_048_576 + '"}', "characters long"),
    ],
)
def test_malformed_data_is_failed_at_once_and_blocks_nothing(ready: World, sink: Sink, data: str, reason: str) -> None:
    ready.add({}, ready.message(), ids=["bad", "good"])
    ready.ask("HSET", f"{ready.base}:bad", "data", data)
    ready.deliver()
    assert ready.jobs_in("failed") == ["bad"]
    assert reason in ready.job("bad")["failedReason"]
    assert len(sink.messages()) == 1


@pytest.mark.parametrize(
    "options",
    ['{"attempts": null}', '{"attempts": 3, "backoff": {"type": "weird"}}', '{"attempts": "x", "backoff": 5}', "{}"],
)
def test_strange_options_are_replaced_by_the_policy(ready: World, sink: Sink, options: str) -> None:
    ready.add(ready.message(emailAddress="drop-rcpt-once@example.com"), ids=["j1"])
    ready.ask("HSET", f"{ready.base}:j1", "opts", options)
    ready.deliver()
    assert len(sink.messages()) == 1
    assert ready.jobs_in("completed") == ["j1"]


def test_a_domain_in_its_warm_up_sends_no_more_than_its_limit(ready: World, sink: Sink) -> None:
    ready.write(
        "INSERT INTO delivery.sending_domains (organization_id, domain, created_at)"
        " VALUES (%(organization)s, 'ACME.test', clock_timestamp() AT TIME ZONE 'UTC')"
    )
    counter, _ = keys(ready.organization, "acme.test")
    ready.add(*(ready.message(f"d{n:02}") for n in range(60)))
    ready.deliver(concurrency={"email": 20})
    assert len(sink.messages()) == 50
    states = list(ready.states().values())
    assert (states.count("sent"), states.count("deferred")) == (50, 10)
    assert int(ready.ask("GET", counter)) == 50
    deferred = [row for row in ready.ledger() if row["state"] == "deferred"]
    assert {row["reason"] for row in deferred} == {"warm-up: acme.test has sent its 50 messages of the day"}
    midnight = (datetime.now(UTC) + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    assert all(midnight <= row["until"] <= midnight + timedelta(minutes=31) for row in deferred)
    assert len(ready.jobs_in("delayed")) == 10


def test_what_was_not_sent_does_not_count_for_the_warm_up(ready: World) -> None:
    ready.write(
        "INSERT INTO delivery.sending_domains (organization_id, domain, created_at)"
        " VALUES (%(organization)s, 'acme.test', clock_timestamp() AT TIME ZONE 'UTC')"
    )
    ready.add(
        ready.message("d1", emailAddress="reject-550@example.com"),
        ready.message("d2", emailAddress="drop-after-dot@example.com"),
        ready.message("d3", emailAddress="ok@example.com"),
    )
    ready.deliver()
    counter, _ = keys(ready.organization, "acme.test")
    # The one of which nobody knows counts.
    assert int(ready.ask("GET", counter)) == 2


def test_a_message_that_has_been_tried_in_time_does_not_expire(ready: World, sink: Sink) -> None:
    ready.write(
        "INSERT INTO delivery.sending_domains (organization_id, domain, created_at)"
        " VALUES (%(organization)s, 'acme.test', clock_timestamp() AT TIME ZONE 'UTC')"
    )
    sent_by_node(ready, 50)
    ready.add(ready.message(emailAddress="drop-rcpt-once@example.com"))
    ready.deliver()
    assert ready.states() == {"d1": "deferred"}
    ready.write("DELETE FROM delivery.delivery_events")
    ready.hurry()
    # Its domain may send at last, but the connection is lost at first.
    ready.deliver(max_age=timedelta(0))
    assert ready.states() == {"d1": "sent"}
    assert len(sink.messages()) == 1


def test_a_message_that_waited_for_the_warm_up_does_not_expire(ready: World) -> None:
    ready.write(
        "INSERT INTO delivery.sending_domains (organization_id, domain, created_at)"
        " VALUES (%(organization)s, 'acme.test', clock_timestamp() AT TIME ZONE 'UTC')"
    )
    sent_by_node(ready, 50)
    ready.add(ready.message())
    ready.deliver()
    assert ready.states() == {"d1": "deferred"}
    ready.write("DELETE FROM delivery.delivery_events")
    ready.hurry()
    ready.deliver(max_age=timedelta(0))
    assert ready.states() == {"d1": "sent"}
