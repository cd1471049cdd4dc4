"""AWS Signature Version 4, in the headers of a request.

Source: docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import SplitResult, quote, urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True, slots=True)
class AwsKey:
    """Static credentials. Temporary ones have a session token."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


def signed_headers(
    key: AwsKey,
    scope: tuple[str, str],
    method: str,
    url: str,
    headers: Mapping[str, str],
    content: bytes,
    now: datetime,
) -> dict[str, str]:
    """Return the headers of a request, and those that sign them with its method, URL and content.

    `scope` is a region and a service. The query of the URL has its special characters percent-encoded. `now` is aware;
    AWS refuses a signature that is more than five minutes off.
    """
    instant = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    sent = {**headers, "x-amz-date": instant}
    if key.session_token:
        sent["x-amz-security-token"] = key.session_token
    host, path, query = _target(url)
    lines = sorted([("host", host), *((name.lower(), " ".join(value.split())) for name, value in sent.items())])
    names = ";".join([name for name, _ in lines])
    request = (method, path, query, *[f"{name}:{value}" for name, value in lines], "", names, _digest(content))
    scopes = (instant[:8], *scope, "aws4_request")
    place = "/".join(scopes)
    text = "\n".join((_ALGORITHM, instant, place, _digest("\n".join(request).encode())))
    signature = hmac.digest(_signing_key(key.secret_access_key, scopes), text.encode(), "sha256").hex()
    credential = f"{key.access_key_id}/{place}"
    sent["authorization"] = f"{_ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
    return sent


@lru_cache(maxsize=1024)
def _signing_key(secret: str, scopes: tuple[str, ...]) -> bytes:
    """Return the key of a day, a region and a service."""
    derived = f"AWS4{secret}".encode()
    for part in scopes:
        derived = hmac.digest(derived, part.encode(), "sha256")
    return derived


@lru_cache(maxsize=1024)
def _target(url: str) -> tuple[str, str, str]:
    """Return the host, the path and the query of a URL as they are signed."""
    place = urlsplit(url)
    return _host(place), _path(place), _query(place)


def _host(place: SplitResult) -> str:
    """Return the host as the client's header has it: in lower case, without the usual port."""
    return place.netloc.rpartition("@")[2].lower().removesuffix(_DEFAULT_PORTS.get(place.scheme, ""))


def _path(place: SplitResult) -> str:
    """Return the path without empty and dotted parts, each character encoded once more than in the URL."""
    parts: list[str] = []
    for part in place.path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    end = "/" if parts and place.path.endswith("/") else ""
    return quote(f"/{'/'.join(parts)}{end}", safe="/~")


def _query(place: SplitResult) -> str:
    """Return the query with its parameters in order, those without a value with an empty one."""
    if not place.query:
        return ""
    return "&".join("=".join(pair) for pair in sorted(each.partition("=")[::2] for each in place.query.split("&")))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
