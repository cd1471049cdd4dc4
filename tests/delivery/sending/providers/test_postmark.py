"""Postmark: what goes over its wire, and what each of its errors means."""

from collections.abc import Iterator

import pytest

from mauntic_jobs.delivery.addresses import Address, parse_address
from mauntic_jobs.delivery.sending.outcome import RejectReason, Verdict
from tests.delivery.adapters import EMAIL, POSTMARK, changed, checked, sent
from tests.delivery.fake_api import FakeApi, Reply, running_api


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with running_api(lambda _: POSTMARK.accepted("0a1b2c3d")) as running:
        yield running


def test_an_email_goes_out_as_documented(api: FakeApi) -> None:
    email = changed(
        reply_to=parse_address("Help <help@acme.test>"),
        unsubscribe_url="https://acme.test/u/1",
        headers={"X-Campaign": "Grüße"},
    )
    sent(POSTMARK, api.url, email, messageStream="broadcast")
    (taken,) = api.taken
    assert (taken.method, taken.path) == ("POST", "/email")
    assert taken.headers["x-postmark-server-token"] == POSTMARK.config["serverToken"]
    assert (taken.headers["content-type"], taken.headers["accept"]) == ("application/json", "application/json")
    assert taken.fields() == {
        "From": '"News" <news@acme.test>',
        "To": "ann@example.com",
        "ReplyTo": '"Help" <help@acme.test>',
        "Subject": "Hello",
        "HtmlBody": "<p>Hello</p>\n",
        "TextBody": "Hello\n",
        "MessageStream": "broadcast",
        "Metadata": EMAIL.tags,
        "Headers": [
            {"Name": "List-Unsubscribe", "Value": "<https://acme.test/u/1>"},
            {"Name": "List-Unsubscribe-Post", "Value": "List-Unsubscribe=One-Click"},
            {"Name": "X-Campaign", "Value": "Grüße"},
            {"Name": "Message-ID", "Value": "<1@acme.test>"},
            {"Name": "X-PM-KeepID", "Value": "true"},
        ],
    }


def test_what_is_not_given_is_left_out(api: FakeApi) -> None:
    sent(POSTMARK, api.url, changed(html=None))
    assert not {"HtmlBody", "ReplyTo", "MessageStream"} & set(api.taken[0].fields())


def test_names_are_quoted_and_domains_are_ascii(api: FakeApi) -> None:
    sender, recipient = Address('Müller, "Bo" \\', "news", "acme.test"), parse_address("ann@bücher.example")
    sent(POSTMARK, api.url, changed(sender=sender, recipient=recipient))
    fields = api.taken[0].fields()
    assert fields["From"] == '"Müller, \\"Bo\\" \\\\" <news@acme.test>'
    assert fields["To"] == "ann@xn--bcher-kva.example"


def test_what_is_longer_than_metadata_may_be_is_left_out(api: FakeApi) -> None:
    sent(POSTMARK, api.url, changed(tags={"deliveryId": "d" * 80, "campaignId": "c" * 81}))
    assert api.taken[0].fields()["Metadata"] == {"deliveryId": "d" * 80}


ERRORS = [
    (422, 300, Verdict.PERMANENT, RejectReason.INVALID),
    (422, 406, Verdict.PERMANENT, RejectReason.BOUNCED),
    (413, None, Verdict.PERMANENT, RejectReason.OTHER),
    (401, 10, Verdict.PROVIDER, None),
    (503, 100, Verdict.PROVIDER, None),
    (422, 400, Verdict.PROVIDER, None),
    (422, 401, Verdict.PROVIDER, None),
    (422, 402, Verdict.PROVIDER, None),
    (422, 403, Verdict.PROVIDER, None),
    (422, 405, Verdict.PROVIDER, None),
    (422, 409, Verdict.PROVIDER, None),
    (422, 412, Verdict.PROVIDER, None),
    (422, 413, Verdict.PROVIDER, None),
    (422, 1235, Verdict.PROVIDER, None),
    (429, 429, Verdict.RATE_LIMITED, None),
    (500, 0, Verdict.UNKNOWN, None),
    (200, 406, Verdict.UNKNOWN, None),
]


def test_every_error_is_judged_by_its_code(api: FakeApi) -> None:
    replies = [
        Reply(status, {"ErrorCode": code, "Message": "why", "MessageID": "x"} if code is not None else b"too large")
        for status, code, _, _ in ERRORS
    ]
    api.answer = lambda _: replies.pop(0)
    outcomes = sent(POSTMARK, api.url, *[EMAIL] * len(ERRORS))
    assert [(each.verdict, each.reject) for each in outcomes] == [(verdict, reject) for *_, verdict, reject in ERRORS]
    assert outcomes[1].reason == "422 ErrorCode 406: why"


def test_a_check_asks_for_the_server(api: FakeApi) -> None:
    replies = [Reply(body={"Name": "Acme", "DeliveryType": "Live"}), Reply(body={"DeliveryType": "Sandbox"})]
    api.answer = lambda _: replies.pop(0)
    live, sandbox = checked(POSTMARK, api.url), checked(POSTMARK, api.url)
    assert (live.verdict, live.reason) == (Verdict.ACCEPTED, "")
    assert sandbox.verdict is Verdict.ACCEPTED
    assert "sandbox" in sandbox.reason
    assert {(taken.method, taken.path) for taken in api.taken} == {("GET", "/server")}
