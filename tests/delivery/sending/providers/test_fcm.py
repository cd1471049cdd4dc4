"""FCM: requests as Google describes them, the access token, and what each answer means for the message."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from freezegun import freeze_time
from google.auth import jwt
from google.auth.crypt import RSASigner

from mauntic_jobs.delivery.render.push import Push
from mauntic_jobs.delivery.render.renderer import ContentError
from mauntic_jobs.delivery.sending.outcome import Outcome, RejectReason, Verdict
from mauntic_jobs.delivery.sending.providers.config import ProviderConfig, ProviderError
from mauntic_jobs.delivery.sending.providers.fcm import FcmProvider
from mauntic_jobs.delivery.sending.providers.google_token import TOKEN_URL, AccessTokens, ServiceAccount
from mauntic_jobs.delivery.sending.providers.http import Answer, ExchangeError, Exchanges, HttpClient, HttpRequest
from mauntic_jobs.timekeeping import clock
from tests.delivery.discovery import problems
from tests.delivery.fake_api import FakeApi, Fault, Reply, Taken, running_api
from tests.delivery.fake_fcm import SCOPE, FakeFcm, account_key, config, error, grants, private_key, sent
from tests.delivery.sink import certificate, server_tls

TAGS = {"deliveryId": "d1", "campaignId": "c0ffee00-0000-4000-8000-000000000001"}
PUSH = Push("device-1", "Hello", "How are you?", "c" * 32, {"screen": "home"}, 3, TAGS)
_T = TypeVar("_T")


@pytest.fixture
def fcm() -> FakeFcm:
    return FakeFcm()


@pytest.fixture
def api(fcm: FakeFcm) -> Iterator[FakeApi]:
    with running_api(fcm) as running:
        yield running


def with_provider(api: FakeApi, call: Callable[[FcmProvider], Awaitable[_T]], timeout: float = 5, **changes: Any) -> _T:
    async def run() -> _T:
        client = HttpClient(timeout=timeout)
        provider = FcmProvider(_config(**changes), client, api.url, token_url=f"{api.url}/token")
        result = await call(provider)
        await client.close()
        return result

    return asyncio.run(run())


def send(api: FakeApi, *messages: Push, **options: Any) -> list[Outcome]:
    async def call(provider: FcmProvider) -> list[Outcome]:
        return [await provider.send(message) for message in messages]

    return with_provider(api, call, **options)


def at_once(api: FakeApi, count: int, **options: Any) -> list[Outcome]:
    async def call(provider: FcmProvider) -> list[Outcome]:
        return await asyncio.gather(*(provider.send(PUSH) for _ in range(count)))

    return with_provider(api, call, **options)


def outcomes_of(api: FakeApi, fcm: FakeFcm, replies: Sequence[Reply | Fault], **options: Any) -> list[Outcome]:
    answers = iter(replies)
    fcm.send = lambda _: next(answers)
    return send(api, *[PUSH] * len(replies), **options)


def _config(**changes: Any) -> ProviderConfig:
    given = {name: value for name, value in {**config(), **changes}.items() if value is not ...}
    return ProviderConfig(UUID(int=1), "fcm", given)


def test_a_message_is_what_googles_description_says(api: FakeApi) -> None:
    before = int(clock.now().timestamp())
    (outcome,) = send(api, PUSH)
    assert outcome == Outcome(Verdict.ACCEPTED, provider_message_id="projects/acme-app/messages/2")
    (message,) = sent(api)
    until = int(message["apns"]["headers"].pop("apns-expiration"))
    assert 0 <= until - before - 172_800 < 60
    assert message == {
        "token": "device-1",
        "notification": {"title": "Hello", "body": "How are you?"},
        "data": {"deliveryId": "d1", "screen": "home"},
        "android": {"ttl": "172800s", "collapseKey": "c" * 32, "notification": {"tag": "c" * 32}},
        "apns": {"headers": {"apns-collapse-id": "c" * 32}, "payload": {"aps": {"badge": 3}}},
        "webpush": {"headers": {"TTL": "172800", "Topic": "c" * 32}},
        "fcmOptions": {"analyticsLabel": TAGS["campaignId"]},
    }


def test_googles_description_is_held_against_what_is_sent() -> None:
    assert problems({"message": {"token": "t"}}) == []
    wrong = {
        "message": {"token": 1, "data": {"a": 1}, "android": {"ttl": "2", "collapse": "x"}, "apns": {"headers": []}},
        "validateOnly": "no",
    }
    assert problems(wrong) == [
        "request.message.token is not of the type string",
        "request.message.data.a is not of the type string",
        "request.message.android.ttl is not a duration",
        "request.message.android has no field collapse",
        "request.message.apns.headers is not of the type object",
        "request.validateOnly is not of the type boolean",
    ]


def test_data_alone_wakes_the_app_and_keeps_its_own_delivery_id(api: FakeApi) -> None:
    own = {"deliveryId": "mine", "gcm_like": "1", "googled": "2"}
    (outcome,) = send(api, Push("t", None, None, "c", own, None, TAGS), ttlSeconds=0)
    assert outcome.verdict is Verdict.ACCEPTED
    (message,) = sent(api)
    assert message == {
        "token": "t",
        "data": own,
        "android": {"ttl": "0s"},
        "apns": {
            "headers": {"apns-collapse-id": "c", "apns-expiration": "0", "apns-priority": "5"},
            "payload": {"aps": {"content-available": 1}},
        },
        "webpush": {"headers": {"TTL": "0", "Topic": "c"}},
        "fcmOptions": {"analyticsLabel": TAGS["campaignId"]},
    }


def test_a_label_that_fcm_would_refuse_is_left_out(api: FakeApi) -> None:
    send(api, Push("t", "a", None, "c", tags={"campaignId": "welcome mail"}), Push("t", "a", None, "c"))
    assert all("fcmOptions" not in message for message in sent(api))


@pytest.mark.parametrize("name", ["from", "message_type", "gcm", "google.sent_time", "gcm.notification.title"])
def test_data_that_fcm_keeps_for_itself_is_refused_before_it_is_asked(api: FakeApi, name: str) -> None:
    with pytest.raises(ContentError, match=f"the key '{name}'"):
        send(api, Push("t", "a", "b", "c", {name: "1"}))
    assert api.taken == []


def test_a_message_may_have_4096_bytes(api: FakeApi) -> None:
    data = {"deliveryId": "x", "text": "é" * 2036}
    (outcome,) = send(api, Push("t", "title", "b" * 4, "c", data))
    assert outcome.verdict is Verdict.ACCEPTED
    with pytest.raises(ContentError, match=r"has 4,097 bytes of texts and data, and 4,096 are allowed"):
        send(api, Push("t", "title", "b" * 5, "c", data))


REFUSALS = [
    (error(400, "INVALID_ARGUMENT"), Verdict.PERMANENT, RejectReason.INVALID),
    (error(400, "INVALID_ARGUMENT", of_fcm=False), Verdict.PERMANENT, RejectReason.INVALID),
    (error(404, "UNREGISTERED"), Verdict.PERMANENT, RejectReason.BOUNCED),
    (error(403, "SENDER_ID_MISMATCH"), Verdict.PERMANENT, RejectReason.INVALID),
    (error(429, "QUOTA_EXCEEDED"), Verdict.RATE_LIMITED, None),
    (error(503, "UNAVAILABLE", after="5"), Verdict.RATE_LIMITED, None),
    (error(503, "UNAVAILABLE"), Verdict.PROVIDER, None),
    (error(500, "INTERNAL"), Verdict.UNKNOWN, None),
    (error(401, "THIRD_PARTY_AUTH_ERROR"), Verdict.PROVIDER, None),
    (error(403, "PERMISSION_DENIED", of_fcm=False), Verdict.PROVIDER, None),
    (error(404, "NOT_FOUND", of_fcm=False), Verdict.PROVIDER, None),
    (error(400, "UNSPECIFIED_ERROR"), Verdict.PROVIDER, None),
    (Reply(400, b"<html>"), Verdict.PROVIDER, None),
    (Reply(400, {"error": "invalid"}), Verdict.PROVIDER, None),
    (Reply(400, {"error": {"details": {"a": 1}}}), Verdict.PROVIDER, None),
    (Reply(400, {"error": {"details": [1, {"@type": None}]}}), Verdict.PROVIDER, None),
    (Reply(502), Verdict.UNKNOWN, None),
    (Reply(504), Verdict.UNKNOWN, None),
    (Reply(302), Verdict.PROVIDER, None),
    (Reply(408), Verdict.TEMPORARY, None),
    *((Reply(200, body), Verdict.UNKNOWN, None) for body in (b"", b"{", b"[]", b"{}", b'{"name": 1}', b'{"name": ""}')),
]


def test_every_answer_means_what_its_code_says(api: FakeApi, fcm: FakeFcm) -> None:
    outcomes = outcomes_of(api, fcm, [reply for reply, *_ in REFUSALS])
    assert [(reply, got.verdict, got.reject) for (reply, *_), got in zip(REFUSALS, outcomes, strict=True)] == REFUSALS
    assert [got.reason for got in outcomes][2:5] == [
        "404 UNREGISTERED: said",
        "403 SENDER_ID_MISMATCH: said",
        "429 QUOTA_EXCEEDED: said",
    ]
    assert len(api.taken) == len(REFUSALS) + 1


def test_a_limit_says_when_to_ask_again_or_it_is_a_minute(api: FakeApi, fcm: FakeFcm) -> None:
    limits = [
        error(429, "QUOTA_EXCEEDED"),
        error(429, "QUOTA_EXCEEDED", after="7"),
        error(429, "QUOTA_EXCEEDED", after="Thu, 01 Jan 1970 00:00:00 GMT"),
        error(503, "UNAVAILABLE", after="30"),
    ]
    assert [outcome.retry_after for outcome in outcomes_of(api, fcm, limits)] == [60, 7, 0, 30]


def test_an_exchange_that_breaks_after_the_message_was_handed_over_is_unknown(api: FakeApi, fcm: FakeFcm) -> None:
    faults = [Fault.RESET_AFTER_BODY, Fault.CUT_ANSWER, Fault.FREEZE]
    outcomes = outcomes_of(api, fcm, faults, timeout=0.5)
    assert [outcome.verdict for outcome in outcomes] == [Verdict.UNKNOWN] * 3
    assert len(sent(api)) == 3


def test_what_an_answer_repeats_of_secrets_is_not_in_the_reason(api: FakeApi, fcm: FakeFcm) -> None:
    secret = json.loads(account_key())["private_key"].splitlines()[3]

    def repeat(_: dict[str, Any]) -> Reply:
        token = api.taken[-1].headers["authorization"]
        return error(400, "INVALID_ARGUMENT", f"{token} {secret} is not for {PUSH.token}")

    fcm.send = repeat
    (outcome,) = send(api, PUSH)
    assert outcome.reason == "400 INVALID_ARGUMENT: Bearer *** *** is not for ***"


def test_one_token_serves_all_who_want_it_at_once_and_later(api: FakeApi) -> None:
    assert {outcome.verdict for outcome in at_once(api, 20)} == {Verdict.ACCEPTED}
    assert (grants(api), len(sent(api))) == (1, 20)


def test_a_token_that_is_withdrawn_is_renewed_once_for_all_and_the_messages_are_sent(
    api: FakeApi, fcm: FakeFcm
) -> None:
    async def call(provider: FcmProvider) -> list[Outcome]:
        first = await provider.send(PUSH)
        fcm.withdraw()
        return [first, *await asyncio.gather(*(provider.send(PUSH) for _ in range(10)))]

    outcomes = with_provider(api, call)
    assert {outcome.verdict for outcome in outcomes} == {Verdict.ACCEPTED}
    assert grants(api) == 2
    accepted = [taken for taken in api.taken if taken.path != "/token"]
    assert len(accepted) == 1 + 10 + 10


def test_a_token_that_is_never_taken_is_the_providers_fault(api: FakeApi, fcm: FakeFcm) -> None:
    fcm.grant = lambda: Reply(body={"access_token": "ya29.other", "expires_in": 3599})
    (outcome,) = send(api, PUSH)
    assert (outcome.verdict, outcome.reason) == (Verdict.PROVIDER, "401 UNAUTHENTICATED: said")
    assert (grants(api), len(sent(api))) == (2, 2)


REFUSED_GRANTS: list[tuple[Reply | Fault, Verdict, str]] = [
    (Reply(400, {"error": "invalid_grant", "error_description": "Bad JWT"}), Verdict.PROVIDER, "invalid_grant Bad JWT"),
    (Reply(401, {"error": "invalid_client"}), Verdict.PROVIDER, "401 invalid_client"),
    (Reply(429, b"", {"retry-after": "9"}), Verdict.RATE_LIMITED, "429"),
    (Reply(500), Verdict.PROVIDER, "500"),
    (Reply(503), Verdict.PROVIDER, "503"),
    (Reply(200, b"{"), Verdict.PROVIDER, "200"),
    (Reply(200, {"expires_in": 3599}), Verdict.PROVIDER, "200"),
    (Reply(200, {"access_token": "x"}), Verdict.PROVIDER, "200"),
    (Reply(200, {"access_token": "a\r\nb", "expires_in": 9}), Verdict.PROVIDER, "Google gives no access: 200"),
    (Fault.RESET_AFTER_BODY, Verdict.PROVIDER, "Google gives no access"),
    (Fault.FREEZE, Verdict.PROVIDER, "no answer for 0.5 s"),
]


def test_without_a_token_nothing_is_sent_and_nothing_is_unknown(api: FakeApi, fcm: FakeFcm) -> None:
    replies = iter([reply for reply, *_ in REFUSED_GRANTS])
    fcm.grant = lambda: next(replies)
    outcomes = send(api, *[PUSH] * len(REFUSED_GRANTS), timeout=0.5)
    assert [outcome.verdict for outcome in outcomes] == [verdict for _, verdict, _ in REFUSED_GRANTS]
    assert [text for got, (_, _, text) in zip(outcomes, REFUSED_GRANTS, strict=True) if text not in got.reason] == []
    assert outcomes[2].retry_after == 9
    assert sent(api) == []


def test_many_who_wait_for_a_token_share_its_refusal(api: FakeApi, fcm: FakeFcm) -> None:
    fcm.grant = lambda: Reply(500)
    assert {outcome.verdict for outcome in at_once(api, 20)} == {Verdict.PROVIDER}
    assert grants(api) == 1


def test_a_token_endpoint_that_is_not_who_it_says_gets_nothing(tmp_path: Path, fcm: FakeFcm) -> None:
    with running_api(fcm, tls=server_tls(certificate(tmp_path))) as api:
        (outcome,) = send(api, PUSH)
        assert outcome.verdict is Verdict.PROVIDER
        assert "certificate" in outcome.reason.lower()
        assert api.taken == []


class Granting(Exchanges):
    """Gives tokens t1, t2 and so on, or what is in `refusals`."""

    def __init__(self) -> None:
        self.asked = 0
        self.refusals: list[Answer] = []

    async def make(self, _: HttpRequest) -> Answer:
        self.asked += 1
        await asyncio.sleep(0)
        granted = Answer(200, {}, json.dumps({"access_token": f"t{self.asked}", "expires_in": 3600}).encode())
        return self.refusals.pop() if self.refusals else granted


@pytest.mark.parametrize("key_id", ["key-1", None, "ä"])
def test_googles_own_library_signs_the_same_and_takes_the_signature(key_id: str | None) -> None:
    account = {**json.loads(account_key()), "private_key_id": key_id}
    config = ProviderConfig(UUID(int=1), "fcm", {"serviceAccountKey": json.dumps(account)})
    public = (
        private_key()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    with freeze_time("2026-10-01T12:00:00Z"):
        assertion = ServiceAccount(config, "serviceAccountKey").assertion(SCOPE)
        claims = jwt.decode(assertion, certs=public, audience=TOKEN_URL)  # type: ignore[no-untyped-call]
        signer = RSASigner.from_string(account["private_key"], key_id)  # type: ignore[no-untyped-call]
        assert assertion.encode() == jwt.encode(signer, claims)  # type: ignore[no-untyped-call]
    assert (claims["iss"], claims["scope"], claims["exp"] - claims["iat"]) == (account["client_email"], SCOPE, 3600)


def test_a_token_is_renewed_before_it_ends_while_it_still_serves() -> None:
    now, granting = 0.0, Granting()
    tokens = AccessTokens(ServiceAccount(_config(), "serviceAccountKey"), SCOPE, granting, "", lambda: now)

    async def run() -> None:
        nonlocal now

        async def at(seconds: float) -> str:
            nonlocal now
            now = seconds
            token = await tokens.get()
            # What goes on beside it ends.
            for _ in range(5):
                await asyncio.sleep(0)
            return token

        assert [await at(0), await at(3299), await at(3300), await at(3301)] == ["t1", "t1", "t1", "t2"]
        assert granting.asked == 2
        # A renewal that fails is not tried again at once.
        granting.refusals = [Answer(500, {}, b"")] * 3
        assert [await at(6600 + second) for second in range(15)] == ["t2"] * 15
        assert granting.asked == 3
        assert await at(6615) == "t2"
        assert granting.asked == 4
        with pytest.raises(ExchangeError, match="Google gives no access: 500"):
            await at(3300 + 3600)
        assert await at(3300 + 3600) == "t6"

    asyncio.run(run())


def test_a_message_waits_for_a_token_only_as_long_as_its_claim_is_fresh(
    api: FakeApi, fcm: FakeFcm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mauntic_jobs.delivery.sending.providers.google_token._PATIENCE_SECONDS", 0.01)
    fcm.grant = lambda: Fault.FREEZE
    (outcome,) = send(api, PUSH)
    assert (outcome.verdict, outcome.reason) == (Verdict.PROVIDER, "Google gives no access within 0.01 s")
    assert sent(api) == []


def test_a_refused_token_is_not_renewed_for_a_message_that_has_waited_long(
    api: FakeApi, fcm: FakeFcm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mauntic_jobs.delivery.sending.providers.fcm._FRESH_SECONDS", 0.0)
    fcm.send = lambda _: error(401, "UNAUTHENTICATED", of_fcm=False)
    assert [outcome.verdict for outcome in send(api, PUSH, PUSH)] == [Verdict.PROVIDER] * 2
    # The next message has a new one.
    assert (grants(api), len(sent(api))) == (2, 2)


def test_a_check_is_judged_as_a_message_and_sends_nothing(api: FakeApi, fcm: FakeFcm) -> None:
    assert with_provider(api, lambda provider: provider.check()).verdict is Verdict.ACCEPTED
    (taken,) = (taken for taken in api.taken if taken.path != "/token")
    assert taken.fields() == {"message": {"topic": "mauntic-jobs-check"}, "validateOnly": True}
    fcm.send = lambda _: error(403, "PERMISSION_DENIED", of_fcm=False)
    refused = with_provider(api, lambda provider: provider.check())
    assert (refused.verdict, refused.reason) == (Verdict.PROVIDER, "403 PERMISSION_DENIED: said")
    fcm.grant = lambda: Reply(400, {"error": "invalid_grant"})
    refused = with_provider(api, lambda provider: provider.check())
    assert (refused.verdict, refused.reason) == (Verdict.PROVIDER, "Google gives no access: 400 invalid_grant")


def test_an_exchange_that_is_aborted_ends_whether_for_the_token_or_the_message(api: FakeApi, fcm: FakeFcm) -> None:
    def frozen(asked: asyncio.Event, loop: asyncio.AbstractEventLoop) -> Callable[[Taken], Fault]:
        def answer(_: Taken) -> Fault:
            loop.call_soon_threadsafe(asked.set)
            return Fault.FREEZE

        return answer

    async def call(provider: FcmProvider) -> Outcome:
        asked = asyncio.Event()
        api.answer = frozen(asked, asyncio.get_running_loop())
        sending = asyncio.ensure_future(provider.send(PUSH))
        await asked.wait()
        provider.abort()
        return await sending

    assert with_provider(api, call).verdict is Verdict.PROVIDER
    api.answer = fcm

    async def after_a_token(provider: FcmProvider) -> Outcome:
        await provider.check()
        return await call(provider)

    assert with_provider(api, after_a_token).verdict is Verdict.UNKNOWN


def _key(**changes: Any) -> str:
    fields = {**json.loads(account_key()), **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not ...})


def _elliptic() -> str:
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem.decode()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"projectId": ...}, "it has no projectId"),
        ({"projectId": "acme/../x"}, "projectId is not the id of a Firebase project"),
        ({"projectId": "acme?x=1"}, "projectId is not the id of a Firebase project"),
        ({"serviceAccountKey": ...}, "it has no serviceAccountKey, which is a JSON object"),
        ({"serviceAccountKey": "{"}, "serviceAccountKey is not JSON"),
        ({"serviceAccountKey": "[]"}, "it has no serviceAccountKey, which is a JSON object"),
        ({"serviceAccountKey": _key(type="authorized_user")}, "is not the key of a service account"),
        ({"serviceAccountKey": _key(client_email=...)}, "is not the key of a service account"),
        ({"serviceAccountKey": _key(private_key=...)}, "is not the key of a service account"),
        ({"serviceAccountKey": _key(private_key="canary")}, "is not a private RSA key"),
        ({"serviceAccountKey": _key(private_key=_elliptic())}, "is not a private RSA key"),
        ({"ttlSeconds": -1}, "ttlSeconds is not a number from 0 to 2419200"),
        ({"ttlSeconds": 2_419_201}, "ttlSeconds is not a number from 0 to 2419200"),
        ({"ttlSeconds": "\u00b2"}, "ttlSeconds is not a number from 0 to 2419200"),
        ({"ttlSeconds": "9" * 5_000}, "ttlSeconds is not a number from 0 to 2419200"),
    ],
)
def test_a_configuration_that_cannot_work_says_why_without_its_key(changes: dict[str, Any], reason: str) -> None:
    client = HttpClient(timeout=5)
    with pytest.raises(ProviderError) as raised:
        FcmProvider(_config(**changes), client)
    asyncio.run(client.close())
    assert reason in str(raised.value)
    assert not any(secret in str(raised.value) for secret in ("canary", "PRIVATE", "MII"))
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize(
    "key", [json.loads(account_key()), _key(private_key=json.loads(account_key())["private_key"].replace("\n", "\\n"))]
)
def test_the_key_may_be_an_object_or_have_written_out_ends_of_lines(api: FakeApi, key: Any) -> None:
    (outcome,) = send(api, PUSH, serviceAccountKey=key)
    assert outcome.verdict is Verdict.ACCEPTED
