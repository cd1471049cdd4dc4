"""What the email providers over HTTP have in common: whatever they answer, it is known what became of the message."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mauntic_jobs.delivery.addresses import Address
from mauntic_jobs.delivery.sending.outcome import RejectReason, Verdict
from mauntic_jobs.delivery.sending.providers.config import ProviderError
from mauntic_jobs.delivery.sending.providers.http import HttpClient
from tests.delivery.adapters import EMAIL, KINDS, SES, Kind, changed, checked, made, mime_of, sent
from tests.delivery.fake_api import FakeApi, Fault, Reply, running_api
from tests.delivery.sink import certificate, server_tls

MALFORMED: list[Any] = [b"", b"{", b"\xff\xfe", b"[]", b"null", b"7", b"<html>no</html>", b"[" * 100_000]
WRONG: list[Any] = [None, 5, 3e99, True, "", "300", [], {}, [7], [{}], [{"field": {}, "message": []}]]
NAMES = ("ErrorCode", "Message", "MessageID", "errors", "__type", "message", "code", "MessageId")
ODD = [*MALFORMED, *(dict.fromkeys(NAMES, each) for each in WRONG if each != "300"), {"ErrorCode": "300"}]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with running_api(lambda _: Reply(500)) as running:
        yield running


def test_what_is_accepted_has_the_providers_name_and_carries_the_deliverys(kind: Kind, api: FakeApi) -> None:
    api.answer = lambda _: kind.accepted("name-1")
    (outcome,) = sent(kind, api.url)
    assert (outcome.verdict, outcome.provider_message_id) == (Verdict.ACCEPTED, "name-1")
    (taken,) = api.taken
    assert kind.delivery(taken) == "d-1"
    assert kind.message_id(taken) == EMAIL.message_id


def test_a_success_without_a_name_is_unknown(kind: Kind, api: FakeApi) -> None:
    replies = [Reply(200, body) for body in ODD]
    api.answer = lambda _: replies.pop(0)
    assert [each.verdict for each in sent(kind, api.url, *[EMAIL] * len(ODD))] == [Verdict.UNKNOWN] * len(ODD)


def test_an_error_that_says_nothing_is_the_providers(kind: Kind, api: FakeApi) -> None:
    replies = [Reply(status, body) for status in (404, 422) for body in ODD]
    api.answer = lambda _: replies.pop(0)
    assert {each.verdict for each in sent(kind, api.url, *[EMAIL] * len(replies))} == {Verdict.PROVIDER}


STATUSES = [
    (Reply(401), Verdict.PROVIDER, None),
    (Reply(403), Verdict.PROVIDER, None),
    (Reply(404), Verdict.PROVIDER, None),
    (Reply(405), Verdict.PROVIDER, None),
    (Reply(408), Verdict.TEMPORARY, None),
    (Reply(429), Verdict.RATE_LIMITED, None),
    (Reply(429, headers={"Retry-After": "7"}), Verdict.RATE_LIMITED, 7.0),
    (Reply(429, headers={"Retry-After": "Thu, 01 Oct 2020 12:00:00 GMT"}), Verdict.RATE_LIMITED, 0.0),
    (Reply(503), Verdict.PROVIDER, None),
    (Reply(503, headers={"Retry-After": "120"}), Verdict.RATE_LIMITED, 120.0),
    (Reply(500), Verdict.UNKNOWN, None),
    (Reply(502, b"<html>Bad Gateway</html>"), Verdict.UNKNOWN, None),
    (Reply(504), Verdict.UNKNOWN, None),
    (Reply(302, headers={"Location": "/elsewhere"}), Verdict.PROVIDER, None),
    (Reply(307, headers={"Location": "/elsewhere"}), Verdict.PROVIDER, None),
]


def test_a_status_decides_where_nothing_else_does(kind: Kind, api: FakeApi) -> None:
    replies = [reply for reply, _, _ in STATUSES]
    api.answer = lambda _: replies.pop(0)
    outcomes = sent(kind, api.url, *[EMAIL] * len(STATUSES))
    assert [(each.verdict, each.retry_after) for each in outcomes] == [(verdict, wait) for _, verdict, wait in STATUSES]
    assert [int(each.reason.split()[0]) for each in outcomes] == [reply.status for reply, _, _ in STATUSES]
    # No redirection is followed, and nothing is repeated.
    assert len(api.taken) == len(STATUSES)


def test_a_wrong_address_is_permanent_and_not_suppressed(kind: Kind, api: FakeApi) -> None:
    api.answer = lambda _: kind.invalid
    (outcome,) = sent(kind, api.url)
    assert (outcome.verdict, outcome.reject) == (Verdict.PERMANENT, RejectReason.INVALID)


@pytest.mark.parametrize("fault", [Fault.RESET_AFTER_BODY, Fault.FREEZE, Fault.CUT_ANSWER])
def test_what_breaks_after_the_request_is_unknown(kind: Kind, api: FakeApi, fault: Fault) -> None:
    api.answer = lambda _: fault
    (outcome,) = sent(kind, api.url, timeout=0.5)
    assert outcome.verdict is Verdict.UNKNOWN
    assert len(api.taken) == 1


def test_what_breaks_before_the_request_was_whole_is_temporary(kind: Kind, api: FakeApi) -> None:
    api.early = lambda _: Fault.RESET_BEFORE_BODY
    (outcome,) = sent(kind, api.url, changed(html="<p>Hello</p>\n" * 400_000))
    assert outcome.verdict is Verdict.TEMPORARY
    assert api.taken == []


def test_nothing_is_said_to_a_server_that_is_not_who_it_says(kind: Kind, tmp_path: Path) -> None:
    with running_api(lambda _: kind.accepted("x"), tls=server_tls(certificate(tmp_path))) as api:
        (outcome,) = sent(kind, api.url)
        assert outcome.verdict is Verdict.PROVIDER
        assert "certificate" in outcome.reason.lower()
        assert checked(kind, api.url).verdict is Verdict.PROVIDER
        assert api.taken == []


@pytest.mark.parametrize(("status", "verdict"), [(200, Verdict.UNKNOWN), (422, Verdict.PROVIDER)])
def test_of_a_huge_answer_only_the_beginning_is_read(kind: Kind, api: FakeApi, status: int, verdict: Verdict) -> None:
    api.answer = lambda _: Reply(status, kind.said("x" * 5_000_000))
    (outcome,) = sent(kind, api.url)
    assert outcome.verdict is verdict
    assert len(outcome.reason) <= 2_000


def test_credentials_and_addresses_in_an_answer_are_not_repeated(kind: Kind, api: FakeApi) -> None:
    words = [*kind.secrets, "ann@example.com", "news@acme.test"]
    text = f"no: {' and '.join(words)}\r\nINFO forged line"
    statuses = [400, 401, 403, 413, 422, 429, 500, 503]
    replies = [Reply(status, kind.said(text)) for status in [*statuses, 401]]
    api.answer = lambda _: replies.pop(0)
    reasons = [each.reason for each in sent(kind, api.url, *[EMAIL] * len(statuses))]
    assert [reason for reason in reasons if "no: " not in reason or not reason.isprintable()] == []
    assert [word for word in words if word in "\n".join(reasons)] == []
    reason = checked(kind, api.url).reason
    assert [word for word in kind.secrets if word in reason] == []


def test_every_character_arrives(kind: Kind, api: FakeApi) -> None:
    api.answer = lambda _: kind.accepted("x")
    text = 'Grüße, "Ann" \\ <b> Ω 漢字 👩‍👩‍👧 \u2028 &amp; {{x}}'
    email = changed(
        sender=Address('Müller, "Bo" \\ 漢字', "news", "xn--bcher-kva.example"),
        reply_to=Address("Ünal", "ü.b+c", "example.com") if kind is not SES else None,
        recipient=Address("", "ann+Tag", "xn--bcher-kva.example"),
        subject=text,
        html=f"<p>{text}</p>\n",
        text=f"{text}\n",
        headers={"X-Campaign": "Grüße 漢字"},
        tags={"deliveryId": "ä:Ω/漢 _", "campaignId": "x" * 10_000},
    )
    (outcome,) = sent(kind, api.url, email)
    assert outcome.verdict is Verdict.ACCEPTED
    assert len(api.taken[0].body) < 10_000


def strings(value: Any) -> Iterator[str]:
    """Return all texts in a JSON value."""
    match value:
        case str():
            yield value
        case dict() | list():
            for each in value.values() if isinstance(value, dict) else value:
                yield from strings(each)


INJECTIONS = ["a\r\nBcc: eve@example.com", "a\nBcc: eve@example.com", "a\rBcc: eve@example.com", "a\x00b", "a\u2028b"]


def test_no_text_ends_a_header(kind: Kind, api: FakeApi) -> None:
    api.answer = lambda _: kind.accepted("x")
    sender, reply_to = Address("", "news", "acme.test"), Address("", "help", "acme.test")
    emails = [
        changed(subject=text, html="<p>", text="x", **{place: dataclasses.replace(address, name=text)})
        for text in INJECTIONS
        for place, address in (("sender", sender), ("reply_to", reply_to))
    ]
    assert {each.verdict for each in sent(kind, api.url, *emails)} == {Verdict.ACCEPTED}
    for taken in api.taken:
        assert [text for text in strings(taken.fields()) if not text.isprintable()] == []
        assert kind is not SES or "bcc" not in mime_of(taken)


def test_a_header_that_would_be_two_is_refused(kind: Kind, api: FakeApi) -> None:
    emails = [
        email
        for text in INJECTIONS
        for email in (
            changed(headers={"X-A": text}),
            changed(headers={f"X-{text}": "1"}),
            changed(unsubscribe_url=f"https://example.com/{text}"),
        )
    ]
    outcomes = sent(kind, api.url, *emails)
    assert {(each.verdict, each.reject) for each in outcomes} == {(Verdict.PERMANENT, RejectReason.INVALID)}
    assert api.taken == []


@pytest.mark.parametrize("status", [401, 500, 503])
def test_a_check_that_fails_says_why(kind: Kind, api: FakeApi, status: int) -> None:
    api.answer = lambda _: Reply(status, kind.said("because"))
    outcome = checked(kind, api.url)
    assert outcome.verdict is Verdict.PROVIDER
    assert outcome.reason.startswith(f"{status} ")
    assert "because" in outcome.reason
    assert [taken.method for taken in api.taken] == ["GET"]


@pytest.mark.parametrize("wrong", [None, "", " ", "canary\r\nx-evil: 1", "canaryé", ["canary"]])
def test_without_credentials_there_is_no_provider(kind: Kind, wrong: Any) -> None:
    for name in set(kind.config) - {"sessionToken"}:
        with pytest.raises(ProviderError, match=name) as raised:
            made(kind, "http://127.0.0.1:9", HttpClient(timeout=1), **{name: wrong})
        assert "canary" not in str(raised.value)
