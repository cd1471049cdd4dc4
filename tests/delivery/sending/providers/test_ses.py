"""SES: requests that its own description and an independent signature confirm, and what each of its errors means."""

import hashlib
import hmac
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator
from freezegun import freeze_time

from mauntic_jobs.delivery.addresses import Address, parse_address
from mauntic_jobs.delivery.render.mime import build
from mauntic_jobs.delivery.sending.outcome import RejectReason, Verdict
from mauntic_jobs.delivery.sending.providers.account import Account
from mauntic_jobs.delivery.sending.providers.config import ProviderError
from mauntic_jobs.delivery.sending.providers.http import HttpClient
from mauntic_jobs.delivery.sending.providers.ses import API, SesProvider, account_of, tag_of
from tests.delivery.adapters import EMAIL, SES, changed, checked, made, mime_of, sent, tags
from tests.delivery.fake_api import FakeApi, Reply, Taken, running_api


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with running_api(lambda _: SES.accepted("0102018-a1-000000")) as running:
        yield running


@cache
def description() -> Any:
    return ServiceModel(Loader().load_service_model("sesv2", "service-2"), "sesv2").operation_model("SendEmail")


def signature(taken: Taken, secret: str) -> str:
    """Return the signature by version 4 of a request, as docs.aws.amazon.com describes it."""
    found = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=[^/]+/(\d{8})/([a-z0-9-]+)/ses/aws4_request, SignedHeaders=([a-z0-9;-]+), .*",
        taken.headers["authorization"],
    )
    assert found
    day, region, names = found.groups()
    assert {"host", "x-amz-date", "x-amz-security-token"} <= set(names.split(";"))
    headers = "".join(f"{name}:{taken.headers[name].strip()}\n" for name in names.split(";"))
    canonical = f"{taken.method}\n{taken.path}\n\n{headers}\n{names}\n{hashlib.sha256(taken.body).hexdigest()}"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{taken.headers['x-amz-date']}\n{day}/{region}/ses/aws4_request\n{digest}"
    key = f"AWS4{secret}".encode()
    for part in (day, region, "ses", "aws4_request", text):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()


def test_an_email_goes_out_as_described_and_signed(api: FakeApi) -> None:
    email = changed(
        sender=parse_address("Müller <news@acme.test>"),
        recipient=parse_address("ann@bücher.example"),
        unsubscribe_url="https://acme.test/u/1",
        headers={"X-Campaign": "Grüße"},
        text="Grüße\n",
    )
    with freeze_time("2026-10-01T12:00:00Z", real_asyncio=True):
        sent(SES, api.url, email, configurationSet="events")
    (taken,) = api.taken
    operation, fields = description(), taken.fields()
    assert (taken.method, taken.path) == (operation.http["method"], operation.http["requestUri"])
    assert not ParamValidator().validate(fields, operation.input_shape).has_errors()
    assert set(fields) <= set(operation.input_shape.members)
    assert fields["FromEmailAddress"] == "news@acme.test"
    assert fields["Destination"] == {"ToAddresses": ["ann@xn--bcher-kva.example"]}
    assert fields["ConfigurationSetName"] == "events"
    assert tags(taken) == EMAIL.tags
    message = mime_of(taken)
    assert (str(message["from"]), str(message["x-campaign"])) == ("Müller <news@acme.test>", "Grüße")
    assert message["list-unsubscribe"] == "<https://acme.test/u/1>"
    assert message.get_body(("plain",)).get_content().strip() == "Grüße"
    assert taken.headers["x-amz-date"] == "20261001T120000Z"
    assert taken.headers["x-amz-security-token"] == SES.config["sessionToken"]
    assert taken.headers["authorization"].endswith(f"Signature={signature(taken, SES.config['secretAccessKey'])}")


def test_without_events_or_a_session_nothing_says_so(api: FakeApi) -> None:
    sent(SES, api.url, sessionToken="")
    assert "ConfigurationSetName" not in api.taken[0].fields()
    assert "x-amz-security-token" not in api.taken[0].headers


def test_what_tags_cannot_hold_is_encoded_and_what_is_too_long_left_out(api: FakeApi) -> None:
    sent(SES, api.url, changed(tags={"deliveryId": "a:b_c.ü", "campaignId": "c" * 256, "jobId": ":" * 86}))
    assert tags(api.taken[0]) == {"deliveryId": "a_3Ab_5Fc_2E_C3_BC", "campaignId": "c" * 256}


def test_a_tag_is_read_back() -> None:
    text = "journey:8d1f_ö/漢 \U0001f469\x00-Z9"
    encoded = tag_of(text)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", encoded)
    plain = re.sub(rb"_([0-9A-F]{2})", lambda found: bytes.fromhex(found[1].decode()), encoded.encode())
    assert plain.decode() == text


@pytest.mark.parametrize("place", ["recipient", "sender", "reply_to"])
def test_an_address_in_utf8_is_refused_before_it_is_sent(api: FakeApi, place: str) -> None:
    (outcome,) = sent(SES, api.url, changed(**{place: Address("", "ünal", "example.com")}))
    assert (outcome.verdict, outcome.reject) == (Verdict.PERMANENT, RejectReason.INVALID)
    assert api.taken == []


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-2", "us-gov-west-1", "ap-southeast-5"])
def test_the_region_names_the_host(region: str) -> None:
    provider = made(SES, API, HttpClient(timeout=1), region=region)
    assert isinstance(provider, SesProvider)
    assert provider._base == f"https://email.{region}.amazonaws.com"


@pytest.mark.parametrize(
    "region", ["eu", "eu-west-1.evil.test/", "evil.test#-west-1", "EU-WEST-1", "a@b-west-1", "eu-west-0"]
)
def test_a_tenant_does_not_choose_the_host(region: str) -> None:
    with pytest.raises(ProviderError, match="region"):
        made(SES, API, HttpClient(timeout=1), region=region)


UNVERIFIED = "Email address is not verified. The following identities failed the check in region EU-WEST-1: x"
ERRORS = [
    (400, "MessageRejected", "the content is not allowed", Verdict.PERMANENT, RejectReason.OTHER, None),
    (400, "MessageRejected", UNVERIFIED, Verdict.PROVIDER, None, None),
    (400, "BadRequestException", "Missing final '@domain'", Verdict.PERMANENT, RejectReason.INVALID, None),
    (400, "MailFromDomainNotVerifiedException", "", Verdict.PROVIDER, None, None),
    (400, "AccountSuspendedException", "", Verdict.PROVIDER, None, None),
    (400, "SendingPausedException", "", Verdict.PROVIDER, None, None),
    (404, "NotFoundException", "no such configuration set", Verdict.PROVIDER, None, None),
    (400, "LimitExceededException", "Daily message quota exceeded.", Verdict.RATE_LIMITED, None, 3600.0),
    (429, "TooManyRequestsException", "Daily message quota exceeded.", Verdict.RATE_LIMITED, None, 3600.0),
    (400, "ThrottlingException", "Daily sending quota exceeded", Verdict.RATE_LIMITED, None, 3600.0),
    (429, "TooManyRequestsException", "Maximum sending rate exceeded.", Verdict.RATE_LIMITED, None, None),
    (429, "TooManyRequestsException", "", Verdict.RATE_LIMITED, None, None),
    (400, "ThrottlingException", "Maximum sending rate exceeded.", Verdict.RATE_LIMITED, None, None),
    (400, "Throttling", "Rate exceeded", Verdict.RATE_LIMITED, None, None),
    (403, "AccessDeniedException", "not authorized to perform ses:SendEmail", Verdict.PROVIDER, None, None),
    (403, "UnrecognizedClientException", "", Verdict.PROVIDER, None, None),
    (403, "InvalidSignatureException", "Signature expired", Verdict.PROVIDER, None, None),
    (403, "ExpiredTokenException", "", Verdict.PROVIDER, None, None),
    (400, "ValidationException", "", Verdict.PROVIDER, None, None),
    (500, "InternalFailure", "", Verdict.UNKNOWN, None, None),
    (503, "ServiceUnavailable", "", Verdict.PROVIDER, None, None),
]


@pytest.mark.parametrize("form", ["header", "type", "code"])
def test_every_error_is_judged_by_its_name(api: FakeApi, form: str) -> None:
    replies = {
        "header": [
            Reply(status, {"message": said}, {"x-amzn-ErrorType": f"{name}:http://x/"})
            for status, name, said, *_ in ERRORS
        ],
        "type": [Reply(status, {"__type": f"com.x#{name}", "Message": said}) for status, name, said, *_ in ERRORS],
        "code": [Reply(status, {"code": name, "message": said}) for status, name, said, *_ in ERRORS],
    }[form]
    api.answer = lambda _: replies.pop(0)
    outcomes = sent(SES, api.url, *[EMAIL] * len(ERRORS))
    assert [(each.verdict, each.reject, each.retry_after) for each in outcomes] == [each[3:] for each in ERRORS]
    assert [each.is_daily for each in outcomes] == ["Daily" in said for _, _, said, *_ in ERRORS]
    assert outcomes[0].reason == "400 MessageRejected: the content is not allowed"


def test_what_is_said_of_a_limit_comes_second_to_retry_after(api: FakeApi) -> None:
    headers = {"x-amzn-errortype": "TooManyRequestsException", "retry-after": "20"}
    api.answer = lambda _: Reply(429, {"message": "Maximum sending rate exceeded."}, headers)
    assert sent(SES, api.url)[0].retry_after == 20.0


def test_every_error_in_the_description_is_judged() -> None:
    assert {shape.name for shape in description().error_shapes} <= {name for _, name, *_ in ERRORS}


def test_a_check_asks_for_the_account(api: FakeApi) -> None:
    account = {"SendingEnabled": True, "ProductionAccessEnabled": True}
    denied = Reply(403, {"message": "no"}, {"x-amzn-errortype": "AccessDeniedException"})
    replies = [Reply(body=account), Reply(body={**account, "ProductionAccessEnabled": False})]
    replies += [Reply(body={**account, "SendingEnabled": False}), denied]
    api.answer = lambda _: replies.pop(0)
    outcomes = [checked(SES, api.url) for _ in range(4)]
    assert [each.verdict is Verdict.ACCEPTED for each in outcomes] == [True, True, False, True]
    words = ["", "sandbox", "paused", "GetAccount"]
    assert [word for word, each in zip(words, outcomes, strict=True) if word not in each.reason] == []
    assert {(taken.method, taken.path, taken.body) for taken in api.taken} == {("GET", "/v2/email/account", b"")}
    secret = SES.config["secretAccessKey"]
    assert all(taken.headers["authorization"].endswith(signature(taken, secret)) for taken in api.taken)


QUOTA = {"Max24HourSend": 50_000.0, "MaxSendRate": 14.0, "SentLast24Hours": 123.0}


@pytest.mark.parametrize(
    ("fields", "account"),
    [
        ({"SendQuota": QUOTA, "EnforcementStatus": "HEALTHY"}, Account(14.0, 50_000, 123)),
        ({"SendQuota": {**QUOTA, "Max24HourSend": -1.0}}, Account(14.0, None, 123)),
        ({"SendQuota": QUOTA, "EnforcementStatus": "SHUTDOWN"}, Account(14.0, 50_000, 123, "SHUTDOWN")),
        ({"SendQuota": {"MaxSendRate": 0.0}}, Account(None, None, 0)),
        ({"SendQuota": {"MaxSendRate": "NaN", "Max24HourSend": None, "SentLast24Hours": []}}, Account(None, None, 0)),
        ({"SendQuota": [1]}, Account(None, None, 0)),
        ({}, Account(None, None, 0)),
    ],
)
def test_what_an_account_may_send(fields: dict[str, Any], account: Account) -> None:
    assert account_of(fields) == account


def test_the_description_has_what_is_read_of_an_account() -> None:
    model = ServiceModel(Loader().load_service_model("sesv2", "service-2"), "sesv2").operation_model("GetAccount")
    assert (model.http["method"], model.http["requestUri"]) == ("GET", "/v2/email/account")
    assert {"SendQuota", "EnforcementStatus"} <= set(model.output_shape.members)
    assert set(model.output_shape.members["SendQuota"].members) == set(QUOTA)


@pytest.mark.slow
def test_another_implementation_of_ses_takes_the_email() -> None:
    from moto.backends import get_backend
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        backend = get_backend("ses")[DEFAULT_ACCOUNT_ID]["eu-west-1"]
        backend.verify_domain("acme.test")
        host, port = server.get_host_and_port()
        outcome, refused = sent(SES, f"http://{host}:{port}", EMAIL, changed(sender=parse_address("eve@other.test")))
        (message,) = backend.sent_messages
    finally:
        server.stop()
    assert (outcome.verdict, outcome.provider_message_id) == (Verdict.ACCEPTED, message.id)
    assert (message.source, message.destinations[0]) == ("news@acme.test", "ann@example.com")
    received = re.sub(r"=_[0-9a-f]{32}", "", message.raw_data)
    assert received == re.sub(r"=_[0-9a-f]{32}", "", build(EMAIL, eight_bit=False).content.decode())
    assert "MessageRejected" in refused.reason
    assert refused.verdict is not Verdict.ACCEPTED
