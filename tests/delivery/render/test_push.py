"""Push messages: what is written for a device, and the whole way from the queue to FCM."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import uuid4

import pytest

from mauntic_jobs.delivery.payload import Message
from mauntic_jobs.delivery.render.lookups import Lookups
from mauntic_jobs.delivery.render.push import Push, PushRenderer
from mauntic_jobs.delivery.render.renderer import WritingError
from mauntic_jobs.settings.types import MessageLimits
from tests.delivery import fake_fcm
from tests.delivery.fake_api import FakeApi, Fault, Reply, running_api
from tests.delivery.fake_fcm import FakeFcm, grants, sent
from tests.delivery.world import World


@pytest.fixture
def fcm() -> FakeFcm:
    return FakeFcm()


@pytest.fixture
def api(fcm: FakeFcm) -> Iterator[FakeApi]:
    with running_api(fcm) as running:
        yield running


@pytest.fixture
def ready(world: World, api: FakeApi) -> World:
    """Return a world whose push messages go to the fake."""
    world.channel = "push"
    world.point(fcm=api.url, google_token=f"{api.url}/token")
    world.provider_of("push", "fcm", fake_fcm.config())
    return world


def written(**fields: Any) -> Push:
    """Return what is written for a message that refers to nothing."""
    message = Message.model_validate({"organizationId": uuid4(), "deliveryId": "d1", **fields})
    draft = asyncio.run(PushRenderer(cast("Lookups", None), MessageLimits()).write(message, None))
    content: Push = draft.content
    return content


def test_values_are_texts_as_apps_get_them() -> None:
    data = {"a": "x", "b": 1, "c": True, "d": None, "e": {"f": [1.5, "ü"]}, "g": ""}
    push = written(deviceToken="t", data=data)
    assert push.data == {"a": "x", "b": "1", "c": "true", "d": "null", "e": '{"f":[1.5,"ü"]}', "g": ""}
    assert (push.title, push.body) == (None, None)


def test_a_delivery_has_one_collapse_id_and_no_other_has_it() -> None:
    organization = uuid4()
    ids = [
        written(organizationId=owner, deliveryId=delivery, deviceToken="t", body="a").collapse_id
        for owner, delivery in [(organization, "d1"), (organization, "d1"), (organization, "d2"), (uuid4(), "d1")]
    ]
    assert ids[0] == ids[1]
    assert len({*ids}) == 3
    assert all(len(each) == 32 and each.isalnum() for each in ids)


def test_its_token_is_not_shown() -> None:
    assert "device-1" not in repr(written(deviceToken="device-1", body="Hello"))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"body": "Hello"}, "no device token"),
        ({"deviceToken": "a b", "body": "Hello"}, "characters that no token has"),
        ({"deviceToken": "tökén", "body": "Hello"}, "characters that no token has"),
        ({"deviceToken": "a\r\nb", "body": "Hello"}, "characters that no token has"),
        ({"deviceToken": "x" * 4097, "body": "Hello"}, "too long"),
        ({"deviceToken": "t"}, "neither the message nor a template has a title, a text or data"),
        ({"deviceToken": "t", "data": {}}, "neither the message nor a template has a title, a text or data"),
        ({"deviceToken": "t", "title": "{{x}}", "body": " "}, "are empty once they are filled in"),
        ({"deviceToken": "t", "body": "Hello", "badge": -1}, "less than zero"),
    ],
)
def test_what_cannot_be_sent_says_why(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(WritingError, match=reason):
        written(**fields)


def test_a_campaigns_message_is_sent_recorded_and_counted(ready: World, api: FakeApi) -> None:
    job, contact = ready.campaign(1), ready.contact(first_name="Ann")
    template = ready.template(subject="Hi {{firstName}}", body_text="It is {{plan}}")
    ready.settings = ready.settings.model_copy(update={"record_activity": True})
    own: dict[str, Any] = {"jobId": str(job), "contactId": str(contact), "templateId": str(template)}
    own["templateData"] = {"plan": "<pro>"}
    ready.add(ready.message(title=..., body=..., badge=2, data={"screen": "home", "n": 1}, **own), ids=["j1"])
    ready.deliver()
    (message,) = sent(api)
    assert message.pop("token").startswith("device")
    assert message["notification"] == {"title": "Hi Ann", "body": "It is <pro>"}
    assert message["data"] == {"deliveryId": ready.key("d1"), "screen": "home", "n": "1"}
    assert message["apns"]["payload"] == {"aps": {"badge": 2}}
    (row,) = ready.ledger()
    assert (row["state"], row["payload"]) == ("sent", None)
    assert row["provider_message_id"].startswith("projects/acme-app/messages/")
    assert ready.jobs_in("completed") == ["j1"]
    (event,) = ready.session.rows(b"SELECT * FROM delivery.delivery_events")
    assert (event["channel"], event["event_type"], event["contact_id"]) == ("push", "sent", contact)
    (counts,) = ready.session.rows(b"SELECT sent_count, failed_count, status FROM delivery.delivery_jobs")
    assert tuple(counts.values()) == (1, 0, "sent")
    (activity,) = ready.session.rows(b"SELECT event_type FROM analytics.contact_activity")
    assert activity["event_type"] == "push_sent"


@pytest.mark.parametrize("queue", ["push", "email"])
def test_a_journey_step_is_sent_where_it_names_a_device_and_fails_where_it_does_not(
    ready: World, api: FakeApi, queue: str
) -> None:
    contact = ready.contact(first_name="Ann")
    template = ready.template(subject="Hi {{firstName}}", body_text="!")
    step = {"journeyExecutionId": str(uuid4()), "stepId": str(uuid4()), "channel": "push"}
    step |= {"organizationId": str(ready.organization), "contactId": str(contact), "templateId": str(template)}
    ready.channel = queue
    ready.add(
        {**step, "idempotencyKey": ready.key("s1"), "deviceToken": "device-2"},
        {**step, "idempotencyKey": ready.key("s2")},
    )
    ready.deliver()
    assert [(message["token"], message["notification"]["title"]) for message in sent(api)] == [("device-2", "Hi Ann")]
    assert ready.states() == {"s1": "sent", "s2": "failed"}
    assert "the platform keeps none for its contact" in ready.ledger()[1]["reason"]


def test_a_device_without_the_app_is_failed_and_not_suppressed(ready: World, fcm: FakeFcm) -> None:
    fcm.send = lambda _: fake_fcm.error(404, "UNREGISTERED", "Requested entity was not found.")
    contact, job = ready.contact(), ready.campaign(1)
    ready.add(ready.message(contactId=str(contact), jobId=str(job)), ids=["j1"])
    ready.deliver()
    (row,) = ready.ledger()
    assert (row["state"], row["reject_reason"]) == ("failed", "bounced")
    assert row["reason"] == "404 UNREGISTERED: Requested entity was not found."
    assert ready.jobs_in("failed") == ["j1"]
    assert not ready.session.rows(b"SELECT 1 FROM delivery.suppressions")
    (event,) = ready.session.rows(b"SELECT event_type, metadata FROM delivery.delivery_events")
    assert (event["event_type"], event["metadata"]["rejectReason"]) == ("failed", "bounced")
    (counts,) = ready.session.rows(b"SELECT sent_count, failed_count, status FROM delivery.delivery_jobs")
    assert tuple(counts.values()) == (0, 1, "failed")


def test_data_that_fcm_keeps_for_itself_fails_the_message(ready: World, api: FakeApi) -> None:
    ready.add(ready.message(data={"from": "me"}))
    ready.deliver()
    assert api.taken == []
    assert ready.ledger()[0]["reason"] == "data cannot have the key 'from': FCM keeps it for itself"


@pytest.mark.parametrize("fault", [Fault.RESET_AFTER_BODY, Reply(500)])
def test_what_nobody_knows_of_is_sent_once_more_with_the_same_collapse_id(
    ready: World, api: FakeApi, fcm: FakeFcm, fault: Any
) -> None:
    fcm.send = lambda _: fault
    ready.add(ready.message(), ids=["j1"])
    ready.deliver()
    (row,) = ready.ledger()
    assert row["state"] == "ambiguous"
    assert timedelta(seconds=110) < row["until"] - datetime.now(UTC) <= timedelta(seconds=120)
    fcm.send = fcm.accepted
    ready.hurry()
    ready.deliver()
    (row,) = ready.ledger()
    assert (row["state"], row["possible_duplicate"], row["resends"]) == ("sent", True, 1)
    first, second = sent(api)
    for place in ("android", "webpush"):
        assert first[place] == second[place]
    collapse_ids = {message["apns"]["headers"]["apns-collapse-id"] for message in (first, second)}
    assert len(collapse_ids) == 1


def test_what_nobody_knows_of_twice_is_left_to_a_human(ready: World, api: FakeApi, fcm: FakeFcm) -> None:
    fcm.send = lambda _: Reply(500)
    ready.add(ready.message(), ids=["j1"])
    for _ in range(3):
        ready.deliver()
        ready.hurry()
    (row,) = ready.ledger()
    assert (row["state"], row["until"], row["resends"]) == ("ambiguous", None, 1)
    assert ready.jobs_in("failed") == ["j1"]
    assert len(sent(api)) == 2


def test_without_an_access_token_messages_wait_and_google_is_left_alone(
    ready: World, api: FakeApi, fcm: FakeFcm
) -> None:
    fcm.grant = lambda: Reply(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
    ready.add(*(ready.message(f"d{n:02}", deviceToken=f"device-{n}") for n in range(8)))
    ready.deliver(concurrency={"push": 3}, drain_timeout=timedelta(seconds=1))
    assert sent(api) == []
    assert grants(api) <= 5
    assert set(ready.states().values()) == {"deferred"}
    # Those that have tried it are delayed, and the others wait in their places.
    assert 5 <= len(ready.jobs_in("delayed")) < 8
    assert len(ready.jobs_in("delayed")) + len(ready.jobs_in("wait")) == 8
    reasons = {each["reason"] for row in ready.ledger() for each in row["attempts"]}
    assert reasons == {"Google gives no access: 400 invalid_grant Invalid JWT Signature."}
    fcm.grant = fcm.granted
    ready.hurry()
    ready.deliver()
    assert set(ready.states().values()) == {"sent"}
    assert len(sent(api)) == 8


def test_a_token_that_ends_in_the_middle_of_a_campaign_costs_no_message(
    ready: World, api: FakeApi, fcm: FakeFcm
) -> None:
    def ending(message: dict[str, Any]) -> Reply:
        if len(sent(api)) in (10, 20):
            fcm.withdraw()
        return fcm.accepted(message)

    fcm.send = ending
    ready.add(*(ready.message(f"d{n:02}", deviceToken=f"device-{n}") for n in range(40)))
    ready.deliver()
    assert set(ready.states().values()) == {"sent"}
    assert all([each["outcome"] for each in row["attempts"]] == ["accepted"] for row in ready.ledger())
    assert grants(api) == 3
