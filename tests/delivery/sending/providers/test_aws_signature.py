"""Signatures of version 4: the same as botocore's, for requests of every shape."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import example, given, settings, strategies as st

from mauntic_jobs.delivery.sending.providers.aws_signature import AwsKey, signed_headers

NOW = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
HOST = "https://example.amazonaws.com"
KEY = AwsKey("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
SCOPE = ("us-east-1", "service")


def theirs(
    key: AwsKey, scope: tuple[str, str], method: str, url: str, headers: dict[str, str], content: bytes, now: datetime
) -> dict[str, str]:
    """Return the headers that botocore sends."""
    credentials = Credentials(key.access_key_id, key.secret_access_key, key.session_token)
    request = AWSRequest(method, url, headers, content)
    with patch("botocore.auth.get_current_datetime", return_value=now.astimezone(UTC)):
        SigV4Auth(credentials, scope[1], scope[0]).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


def ours(*request: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in signed_headers(*request).items()}


# The cases of the test suite that AWS publishes, by its names.
SUITE: dict[str, tuple[str, str, dict[str, str], bytes]] = {
    "get-vanilla": ("GET", "/", {}, b""),
    "get-unreserved": ("GET", "/-._~0123456789ABCXYZabcxyz", {}, b""),
    "get-utf8": ("GET", "/%E1%88%B4", {}, b""),
    "get-space": ("GET", "/example%20space/", {}, b""),
    "get-header-value-trim": ("GET", "/", {"My-Header1": " value1", "My-Header2": ' "a   b   c"'}, b""),
    "get-header-key-duplicate": ("GET", "/", {"My-Header1": "value2,value2,value1"}, b""),
    "get-vanilla-empty-query-key": ("GET", "/?Param1=value1&=x&Param2", {}, b""),
    "get-vanilla-query-order-key": ("GET", "/?Param1=value2&Param1=Value1", {}, b""),
    "get-vanilla-query-order-key-case": ("GET", "/?param2=value2&Param1=value1", {}, b""),
    "get-vanilla-query-unreserved": ("GET", "/?-._~09AZaz=-._~09AZaz", {}, b""),
    "get-vanilla-utf8-query": ("GET", "/?%E1%88%B4=bar", {}, b""),
    "get-relative": ("GET", "/example/..", {}, b""),
    "get-relative-relative": ("GET", "/example1/example2/../..", {}, b""),
    "get-slash": ("GET", "//", {}, b""),
    "get-slash-dot-slash": ("GET", "/./", {}, b""),
    "get-slash-pointless-dot": ("GET", "/./example", {}, b""),
    "get-slashes": ("GET", "//example//", {}, b""),
    "post-header-key-case": ("POST", "/", {"MY-HEADER1": "VALUE1"}, b""),
    "post-x-www-form-urlencoded": ("POST", "/", {"Content-Type": "application/x-www-form-urlencoded"}, b"Param1=v"),
}


@pytest.mark.parametrize("name", SUITE)
@pytest.mark.parametrize("token", [None, "AQoDYXdzEPT//////////wEXAMPLE=="])
def test_the_cases_of_aws_are_signed_alike(name: str, token: str | None) -> None:
    method, path, headers, content = SUITE[name]
    key = AwsKey(KEY.access_key_id, KEY.secret_access_key, token)
    request = (key, SCOPE, method, HOST + path, headers, content, NOW)
    assert ours(*request) == theirs(*request)
    assert ("x-amz-security-token" in ours(*request)) is (token is not None)


def test_a_signature_is_what_aws_documents_for_its_plainest_case() -> None:
    signed = signed_headers(KEY, SCOPE, "GET", f"{HOST}/", {}, b"", NOW)
    assert signed["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        "SignedHeaders=host;x-amz-date, "
        "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
    )


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
WORDS = st.text("abcXYZ019-._~", min_size=1, max_size=8)
PARTS = st.one_of(TEXTS.map(lambda text: quote(text, safe="~")), st.sampled_from(["", ".", "..", "+", "*"]))
PARAMETERS = st.builds(
    lambda name, sign, value: f"{quote(name, safe='~')}{sign}{quote(value, safe='~')}",
    TEXTS,
    st.sampled_from(["", "="]),
    TEXTS,
)
HOSTS = st.sampled_from(
    ["example.amazonaws.com", "Example.COM", "127.0.0.1:8080", "h.test:443", "h.test:80", "[::1]:1"]
)
URLS = st.builds(
    lambda scheme, host, parts, query: f"{scheme}://{host}/{'/'.join(parts)}{'?' if query else ''}{'&'.join(query)}",
    st.sampled_from(["https", "http"]),
    HOSTS,
    st.lists(PARTS),
    st.lists(PARAMETERS),
)
# botocore does not sign the headers that proxies change; no other name begins so.
HEADERS = st.dictionaries(WORDS.map(lambda word: f"x-{word}"), TEXTS, max_size=4)
ZONES = st.integers(-12, 14).map(lambda hours: timezone(timedelta(hours=hours)))
TIMES = st.datetimes(datetime(2015, 1, 2), datetime(2099, 1, 1), timezones=ZONES)  # noqa: DTZ001 - hypothesis wants it
REQUESTS = st.tuples(
    st.builds(AwsKey, WORDS, TEXTS, st.none() | WORDS),
    st.tuples(WORDS, WORDS),
    st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    URLS,
    HEADERS,
    st.binary(max_size=100),
    TIMES,
)


@settings(deadline=None)
@given(REQUESTS)
@example((KEY, SCOPE, "GET", "https://h.test/a/../..?%C3%A9=a%20b&a-&a=1", {}, b"", NOW))
def test_any_request_is_signed_as_botocore_signs_it(request: Any) -> None:
    assert ours(*request) == theirs(*request)


def test_the_key_is_not_shown() -> None:
    assert repr(AwsKey("id", "secret", "token")) == "AwsKey(access_key_id='id')"
