"""SendGrid: what goes over its wire, and what each of its errors means."""

from collections.abc import Iterator
from typing import Any

import pytest
from freezegun import freeze_time

from mauntic_jobs.delivery.addresses import Address, parse_address
from mauntic_jobs.delivery.sending.outcome import RejectReason, Verdict
from tests.delivery.adapters import EMAIL, SENDGRID, changed, checked, sent
from tests.delivery.fake_api import FakeApi, Fault, Reply, running_api


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with running_api(lambda _: SENDGRID.accepted("14c5d75ce93.dfd.64b469")) as running:
        yield running


def test_an_email_goes_out_as_documented(api: FakeApi) -> None:
    email = changed(
        reply_to=parse_address("help@acme.test"),
        unsubscribe_url="https://acme.test/u/1",
        headers={"X-Campaign": "Grüße"},
    )
    sent(SENDGRID, api.url, email)
    (taken,) = api.taken
    assert (taken.method, taken.path) == ("POST", "/v3/mail/send")
    assert taken.headers["authorization"] == f"Bearer {SENDGRID.config['apiKey']}"
    assert (taken.headers["content-type"], taken.headers["accept"]) == ("application/json", "application/json")
    assert taken.fields() == {
        "personalizations": [{"to": [{"email": "ann@example.com"}]}],
        "from": {"email": "news@acme.test", "name": "News"},
        "reply_to": {"email": "help@acme.test"},
        "subject": "Hello",
        "content": [
            {"type": "text/plain", "value": "Hello\n"},
            {"type": "text/html", "value": "<p>Hello</p>\n"},
        ],
        "headers": {
            "List-Unsubscribe": "<https://acme.test/u/1>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
            "X-Campaign": "Grüße",
            "Message-ID": "<1@acme.test>",
        },
        "custom_args": EMAIL.tags,
    }


@pytest.mark.parametrize(
    ("fields", "kinds"),
    [({"html": None}, ["text/plain"]), ({"text": ""}, ["text/html"]), ({"text": None}, ["text/html"])],
)
def test_no_part_is_empty(api: FakeApi, fields: dict[str, Any], kinds: list[str]) -> None:
    sent(SENDGRID, api.url, changed(**fields))
    assert [part["type"] for part in api.taken[0].fields()["content"]] == kinds


def test_names_go_out_as_they_are_and_domains_are_ascii(api: FakeApi) -> None:
    sender, recipient = Address('Müller, "Bo" \\', "news", "acme.test"), parse_address("ann@bücher.example")
    sent(SENDGRID, api.url, changed(sender=sender, recipient=recipient))
    fields = api.taken[0].fields()
    assert fields["from"] == {"email": "news@acme.test", "name": 'Müller, "Bo" \\'}
    assert fields["personalizations"] == [{"to": [{"email": "ann@xn--bcher-kva.example"}]}]


def test_custom_arguments_stay_within_their_limit(api: FakeApi) -> None:
    tags = {"deliveryId": "ä" * 255, "campaignId": "c" * 10_000}
    sent(SENDGRID, api.url, changed(tags=tags))
    assert api.taken[0].fields()["custom_args"] == {"deliveryId": "ä" * 255}


def test_the_name_of_a_message_is_known_although_the_body_is_cut_off(api: FakeApi) -> None:
    api.answer = lambda _: Fault.CUT_ANSWER
    assert sent(SENDGRID, api.url)[0].verdict is Verdict.UNKNOWN
    api.answer = lambda _: Reply(202, b"<html>", {"x-message-id": "m-1"})
    (outcome,) = sent(SENDGRID, api.url)
    assert (outcome.verdict, outcome.provider_message_id) == (Verdict.ACCEPTED, "m-1")


ERRORS: list[tuple[int, list[str | None], Verdict, RejectReason | None]] = [
    (400, ["personalizations.0.to.0.email"], Verdict.PERMANENT, RejectReason.INVALID),
    (400, ["reply_to.email"], Verdict.PERMANENT, RejectReason.INVALID),
    (400, ["content.0.value"], Verdict.PERMANENT, RejectReason.OTHER),
    (400, ["subject"], Verdict.PERMANENT, RejectReason.OTHER),
    (400, ["headers"], Verdict.PERMANENT, RejectReason.OTHER),
    (400, ["subject", "personalizations.0.to.0.email"], Verdict.PERMANENT, RejectReason.INVALID),
    (400, [None], Verdict.PERMANENT, RejectReason.OTHER),
    (400, [], Verdict.PROVIDER, None),
    (400, ["from.email"], Verdict.PROVIDER, None),
    (400, ["subject", "from"], Verdict.PROVIDER, None),
    (401, [None], Verdict.PROVIDER, None),
    (403, ["from"], Verdict.PROVIDER, None),
    (404, [None], Verdict.PROVIDER, None),
    (406, [None], Verdict.PROVIDER, None),
    (413, [None], Verdict.PERMANENT, RejectReason.OTHER),
    (413, [], Verdict.PERMANENT, RejectReason.OTHER),
    (429, [None], Verdict.RATE_LIMITED, None),
    (451, [None], Verdict.PROVIDER, None),
    (500, [None], Verdict.UNKNOWN, None),
    (503, [None], Verdict.PROVIDER, None),
]


def test_every_error_is_judged_by_its_status_and_field(api: FakeApi) -> None:
    replies = [
        Reply(status, {"errors": [{"field": field, "message": "why", "help": None} for field in fields]})
        for status, fields, _, _ in ERRORS
    ]
    api.answer = lambda _: replies.pop(0)
    outcomes = sent(SENDGRID, api.url, *[EMAIL] * len(ERRORS))
    assert [(each.verdict, each.reject) for each in outcomes] == [(verdict, reject) for *_, verdict, reject in ERRORS]
    assert outcomes[5].reason == "400 subject: why; personalizations.0.to.0.email: why"


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"X-RateLimit-Reset": "1790856007"}, 7.0),
        ({"X-RateLimit-Reset": "1790855000"}, 0.0),
        ({"X-RateLimit-Reset": "1790856007", "Retry-After": "3"}, 3.0),
        ({"X-RateLimit-Reset": "soon"}, None),
        ({"X-RateLimit-Reset": "9" * 4_000}, None),
        ({}, None),
    ],
)
def test_a_limit_lasts_until_it_is_reset(api: FakeApi, headers: dict[str, str], wait: float | None) -> None:
    api.answer = lambda _: Reply(429, headers=headers)
    with freeze_time("2026-10-01T12:00:00Z", real_asyncio=True):
        (outcome,) = sent(SENDGRID, api.url)
    assert (outcome.verdict, outcome.retry_after) == (Verdict.RATE_LIMITED, wait)


def test_a_check_asks_what_the_key_may_do(api: FakeApi) -> None:
    replies = [Reply(body={"scopes": ["mail.send", "user.profile.read"]}), Reply(body={"scopes": ["user.read"]})]
    replies += [Reply(body={"scopes": "mail.send"}), Reply(body=b"{")]
    api.answer = lambda _: replies.pop(0)
    outcomes = [checked(SENDGRID, api.url) for _ in range(4)]
    assert [each.verdict for each in outcomes] == [Verdict.ACCEPTED, *[Verdict.PROVIDER] * 3]
    assert "mail.send" in outcomes[1].reason
    assert {(taken.method, taken.path) for taken in api.taken} == {("GET", "/v3/scopes")}
