"""Twilio: requests as it wants them, and what each of its answers means for the message."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from mauntic_jobs.delivery.render.sms import Sms
from mauntic_jobs.delivery.sending.outcome import Outcome, RejectReason, Verdict
from mauntic_jobs.delivery.sending.providers.config import ProviderConfig, ProviderError
from mauntic_jobs.delivery.sending.providers.http import HttpClient
from mauntic_jobs.delivery.sending.providers.twilio import TwilioProvider
from tests.delivery import fake_twilio
from tests.delivery.fake_api import Answering, FakeApi, Fault, Reply, running_api
from tests.delivery.fake_twilio import AUTH_TOKEN, CONFIG, NUMBER, SERVICE, created, error, sent
from tests.delivery.sink import certificate, server_tls

SMS = Sms("+15005550006", "Hello & goodbye: 50 %, €5 +1")


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with running_api(fake_twilio.answer) as running:
        yield running


def send(api: FakeApi, *messages: Sms, timeout: float = 5, **changes: Any) -> list[Outcome]:
    async def run() -> list[Outcome]:
        client = HttpClient(timeout=timeout)
        provider = TwilioProvider(config(**changes), client, api.url)
        outcomes = [await provider.send(message) for message in messages]
        await client.close()
        return outcomes

    return asyncio.run(run())


def check(api: FakeApi, **changes: Any) -> Outcome:
    async def run() -> Outcome:
        client = HttpClient(timeout=5)
        outcome = await TwilioProvider(config(**changes), client, api.url).check()
        await client.close()
        return outcome

    return asyncio.run(run())


def config(**changes: Any) -> ProviderConfig:
    given = {name: value for name, value in {**CONFIG, **changes}.items() if value is not ...}
    return ProviderConfig(UUID(int=1), "twilio", given)


def outcome_of(api: FakeApi, answering: Answering, sms: Sms = SMS, **options: Any) -> Outcome:
    api.answer = answering
    (outcome,) = send(api, sms, **options)
    return outcome


def outcomes_of(api: FakeApi, replies: Sequence[Reply]) -> list[Outcome]:
    answers = iter(replies)
    api.answer = lambda _: next(answers)
    return send(api, *[SMS] * len(replies))


def test_a_message_is_a_form_with_its_text_unharmed(api: FakeApi) -> None:
    (outcome,) = send(api, SMS)
    assert outcome.verdict is Verdict.ACCEPTED
    assert (outcome.provider_message_id or "").startswith("SM")
    assert sent(api) == [{"To": SMS.recipient, "From": NUMBER, "Body": SMS.text}]


def test_an_accepted_message_says_how_many_it_is_on_the_air(api: FakeApi) -> None:
    one, two = send(api, SMS, Sms("+15005550006", "a" * 161))
    assert (one.reason, two.reason) == ("segments: 1", "segments: 2")


@pytest.mark.parametrize(
    ("changes", "sender", "expected"),
    [
        ({}, None, {"From": NUMBER}),
        ({"fromNumber": "+1 (500) 555-0001"}, None, {"From": NUMBER}),
        ({"messagingServiceSid": SERVICE}, None, {"MessagingServiceSid": SERVICE}),
        ({"messagingServiceSid": SERVICE, "fromNumber": ...}, None, {"MessagingServiceSid": SERVICE}),
        ({"messagingServiceSid": SERVICE}, "Acme", {"From": "Acme"}),
        ({}, "12345", {"From": "12345"}),
    ],
)
def test_a_message_is_from_whom_it_says_or_the_service_or_the_number(
    api: FakeApi, changes: dict[str, Any], sender: str | None, expected: dict[str, str]
) -> None:
    (outcome,) = send(api, Sms("+15005550006", "Hello", sender), **changes)
    assert outcome.verdict is Verdict.ACCEPTED
    assert sent(api) == [{"To": "+15005550006", "Body": "Hello", **expected}]


def test_an_api_key_is_used_instead_of_the_accounts_own(api: FakeApi) -> None:
    key, secret = f"SK{1:032x}", "secret-of-the-key"
    outcome_of(api, lambda _: created(), apiKeySid=key, apiKeySecret=secret, authToken=...)
    assert api.taken[0].headers["authorization"] == fake_twilio.credentials(key, secret)


REFUSALS = [
    (400, 14101, Verdict.PERMANENT, RejectReason.INVALID),
    (400, 14103, Verdict.PERMANENT, RejectReason.INVALID),
    (400, 21211, Verdict.PERMANENT, RejectReason.INVALID),
    (400, 21214, Verdict.PERMANENT, RejectReason.INVALID),
    (400, 21216, Verdict.PERMANENT, RejectReason.BLOCKED),
    (400, 21217, Verdict.PERMANENT, RejectReason.INVALID),
    (400, 21401, Verdict.PERMANENT, RejectReason.INVALID),
    (400, 21408, Verdict.PERMANENT, RejectReason.BLOCKED),
    (403, 21408, Verdict.PERMANENT, RejectReason.BLOCKED),
    (400, 21602, Verdict.PERMANENT, RejectReason.INVALID),
    (400, 21604, Verdict.PERMANENT, RejectReason.INVALID),
    (400, 21605, Verdict.PERMANENT, RejectReason.INVALID),
    (400, 21608, Verdict.PERMANENT, RejectReason.BLOCKED),
    (400, 21610, Verdict.PERMANENT, RejectReason.UNSUBSCRIBED),
    (400, 21612, Verdict.PERMANENT, RejectReason.BLOCKED),
    (400, 21614, Verdict.PERMANENT, RejectReason.INVALID),
    (400, 21617, Verdict.PERMANENT, RejectReason.INVALID),
    (400, 21618, Verdict.PERMANENT, RejectReason.BLOCKED),
    (400, 21619, Verdict.PERMANENT, RejectReason.INVALID),
    (400, 21635, Verdict.PERMANENT, RejectReason.INVALID),
    (400, 21703, Verdict.PERMANENT, RejectReason.BLOCKED),
    (400, 30003, Verdict.PERMANENT, RejectReason.TIMED_OUT),
    (400, 30004, Verdict.PERMANENT, RejectReason.BLOCKED),
    (400, 30005, Verdict.PERMANENT, RejectReason.BOUNCED),
    (400, 30006, Verdict.PERMANENT, RejectReason.INVALID),
    (400, 30007, Verdict.PERMANENT, RejectReason.BLOCKED),
    (400, 30008, Verdict.PERMANENT, RejectReason.OTHER),
    (400, 30450, Verdict.PERMANENT, RejectReason.BLOCKED),
    (400, 14107, Verdict.TEMPORARY, None),
    (429, 14107, Verdict.TEMPORARY, None),
    (429, 20429, Verdict.RATE_LIMITED, None),
    (400, 21611, Verdict.RATE_LIMITED, None),
    (429, 21611, Verdict.RATE_LIMITED, None),
    (400, 30001, Verdict.RATE_LIMITED, None),
    (429, 63038, Verdict.RATE_LIMITED, None),
    (429, 0, Verdict.RATE_LIMITED, None),
    (400, 30410, Verdict.UNKNOWN, None),
    (401, 20003, Verdict.PROVIDER, None),
    (403, 20005, Verdict.PROVIDER, None),
    (400, 10001, Verdict.PROVIDER, None),
    (404, 20404, Verdict.PROVIDER, None),
    *((400, code, Verdict.PROVIDER, None) for code in (21210, 21212, 21603, 21606, 21607, 21616, 21659, 21660, 21661)),
    (404, 21701, Verdict.PROVIDER, None),
    (400, 21704, Verdict.PROVIDER, None),
    (400, 99999, Verdict.PROVIDER, None),
    (408, 0, Verdict.TEMPORARY, None),
    (302, 0, Verdict.PROVIDER, None),
    (500, 20500, Verdict.UNKNOWN, None),
    (500, 21610, Verdict.UNKNOWN, None),
    (502, 0, Verdict.UNKNOWN, None),
    (503, 20503, Verdict.PROVIDER, None),
    (504, 0, Verdict.UNKNOWN, None),
]


def test_every_refusal_means_what_its_code_says(api: FakeApi) -> None:
    outcomes = outcomes_of(api, [error(status, code) for status, code, *_ in REFUSALS])
    found = [
        (status, code, got.verdict, got.reject) for (status, code, *_), got in zip(REFUSALS, outcomes, strict=True)
    ]
    assert found == REFUSALS
    assert outcomes[0].reason == "400 code 14101: said"


def test_a_sender_that_only_the_message_names_is_the_messages_fault(api: FakeApi) -> None:
    outcome = outcome_of(api, lambda _: error(400, 21660), Sms("+15005550006", "Hello", "+15005550002"))
    assert (outcome.verdict, outcome.reject) == (Verdict.PERMANENT, RejectReason.INVALID)


def test_a_limit_says_when_to_ask_again(api: FakeApi) -> None:
    limits = [
        (error(429, 20429, after="7"), 7),
        (error(429, 20429, after="Thu, 01 Jan 1970 00:00:00 GMT"), 0),
        (error(429, 20429), None),
        (error(429, 63038), 3600),
        (error(503, 20503, after="9"), 9),
    ]
    outcomes = outcomes_of(api, [reply for reply, _ in limits])
    assert {outcome.verdict for outcome in outcomes} == {Verdict.RATE_LIMITED}
    assert [outcome.retry_after for outcome in outcomes] == [seconds for _, seconds in limits]


TAKEN: list[tuple[dict[str, Any], Verdict, RejectReason | None]] = [
    ({"status": "accepted"}, Verdict.ACCEPTED, None),
    ({"status": "failed", "error_code": 21610}, Verdict.PERMANENT, RejectReason.UNSUBSCRIBED),
    ({"status": "undelivered", "error_code": 30005}, Verdict.PERMANENT, RejectReason.BOUNCED),
    ({"status": "failed", "error_code": 30001}, Verdict.RATE_LIMITED, None),
    ({"status": "failed", "error_code": 30002}, Verdict.PROVIDER, None),
    ({"status": "undelivered", "error_code": 30500}, Verdict.PERMANENT, RejectReason.OTHER),
    ({"status": "failed"}, Verdict.PERMANENT, RejectReason.OTHER),
    ({"status": "undelivered", "error_code": 30410}, Verdict.UNKNOWN, None),
    ({"sid": None}, Verdict.UNKNOWN, None),
    ({"sid": 7}, Verdict.UNKNOWN, None),
]


def test_a_message_that_was_taken_may_have_failed_all_the_same(api: FakeApi) -> None:
    outcomes = outcomes_of(api, [created(**fields) for fields, *_ in TAKEN])
    assert [(fields, got.verdict, got.reject) for (fields, *_), got in zip(TAKEN, outcomes, strict=True)] == TAKEN


def test_a_success_that_cannot_be_read_is_unknown(api: FakeApi) -> None:
    bodies = [b"", b"{", b"[]", b"null", b'{"sid": "SM1"', b"\xff\xfe", b"[" * 100_000]
    outcomes = outcomes_of(api, [Reply(201, body) for body in bodies])
    assert [outcome.verdict for outcome in outcomes] == [Verdict.UNKNOWN] * len(bodies)


def test_a_refusal_that_cannot_be_read_is_the_providers(api: FakeApi) -> None:
    bodies = [b"", b"{", b"[]", b'{"code": "21610"}', b'{"code": [21610]}', b"<html>"]
    outcomes = outcomes_of(api, [Reply(400, body) for body in bodies])
    assert [outcome.verdict for outcome in outcomes] == [Verdict.PROVIDER] * len(bodies)


@pytest.mark.parametrize("fault", [Fault.RESET_AFTER_BODY, Fault.FREEZE, Fault.CUT_ANSWER])
def test_an_exchange_that_breaks_after_the_message_was_handed_over_is_unknown(api: FakeApi, fault: Fault) -> None:
    assert outcome_of(api, lambda _: fault, timeout=0.5).verdict is Verdict.UNKNOWN
    assert len(sent(api)) == 1


def test_a_provider_that_is_not_who_it_says_gets_nothing(tmp_path: Path) -> None:
    with running_api(fake_twilio.answer, tls=server_tls(certificate(tmp_path))) as api:
        (outcome,) = send(api, SMS)
        assert outcome.verdict is Verdict.PROVIDER
        assert "certificate" in outcome.reason.lower()
        assert api.taken == []


def test_what_an_answer_repeats_of_the_credentials_is_not_in_the_reason(api: FakeApi) -> None:
    text = f"no account for {AUTH_TOKEN} and {fake_twilio.credentials()}"
    for outcome in (outcome_of(api, lambda _: error(401, 20003, text)), check(api)):
        assert "no account for ***" in outcome.reason
        assert AUTH_TOKEN not in outcome.reason
        assert fake_twilio.credentials()[6:] not in outcome.reason


def test_a_check_logs_in_and_sends_nothing(api: FakeApi) -> None:
    assert check(api).verdict is Verdict.ACCEPTED
    assert [taken.method for taken in api.taken] == ["GET"]
    wrong = check(api, authToken="wrong")
    assert (wrong.verdict, wrong.reason) == (Verdict.PROVIDER, "401 code 20003: Authenticate")
    api.answer = lambda _: Reply(body={"status": "suspended"})
    assert check(api).reason == "the account is suspended, not active"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"accountSid": ...}, "it has no accountSid"),
        ({"accountSid": "AC1"}, "accountSid is not like AC[0-9a-fA-F]{32}"),
        ({"accountSid": f"AC{1:032x}/../../x"}, "accountSid is not like"),
        ({"authToken": ...}, "it has no authToken"),
        ({"authToken": "a\r\nb"}, "authToken has characters"),
        ({"apiKeySid": "SK1"}, "it has no apiKeySecret"),
        ({"fromNumber": ...}, "it has neither fromNumber nor messagingServiceSid"),
        ({"fromNumber": "+1"}, "fromNumber: the phone number"),
        ({"fromNumber": "Acme & Partners Ltd"}, "fromNumber: the sender is neither"),
        ({"fromNumber": ["+15005550001"]}, "fromNumber is not a text"),
        ({"messagingServiceSid": "MG&x=1"}, "messagingServiceSid is not like"),
    ],
)
def test_a_configuration_that_cannot_work_says_why(changes: dict[str, Any], reason: str) -> None:
    async def run() -> None:
        client = HttpClient(timeout=5)
        with pytest.raises(ProviderError) as raised:
            TwilioProvider(config(**changes), client)
        await client.close()
        assert reason in str(raised.value)
        assert AUTH_TOKEN not in str(raised.value)

    asyncio.run(run())
