"""Checks that connections are encrypted."""

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

from mauntic_jobs.ops.doctor.check import Check, Service, Site
from mauntic_jobs.ops.doctor.finding import Finding, ok, warning

_THIS_MACHINE = ("", "localhost", "127.0.0.1", "::1")


def _postgres(site: Site) -> Iterator[Finding]:
    wire = site.session.wire
    if wire.encrypted and wire.sslmode.startswith("verify"):
        yield ok(f"the connection is encrypted and the server is known by its certificate (sslmode={wire.sslmode})")
    elif wire.encrypted:
        yield ok(
            f"the connection is encrypted, but the server is not asked who it is (sslmode={wire.sslmode})",
            "Put sslmode=verify-full&sslrootcert=system in DATABASE_URL, where its certificate is a public one",
        )
    elif wire.host in _THIS_MACHINE or wire.host.startswith("/"):
        yield ok("the connection does not leave this machine")
    else:
        yield warning(
            f"the connection to {wire.host} is not encrypted", "Put sslmode=verify-full in DATABASE_URL, or require"
        )


def _redis(site: Site) -> Iterator[Finding]:
    url = urlsplit(site.settings.redis_url.get_secret_value() if site.settings.redis_url else "")
    verified = parse_qs(url.query).get("ssl_cert_reqs", ["required"]) == ["required"]
    if url.scheme == "rediss" and verified:
        yield ok("the connection is encrypted and the server is known by its certificate")
    elif url.scheme == "rediss":
        yield warning("the server is not asked who it is", "Take ssl_cert_reqs out of REDIS_URL")
    elif url.scheme == "unix" or url.hostname in _THIS_MACHINE:
        yield ok("the connection does not leave this machine")
    else:
        yield warning(
            f"the connection to {url.hostname} is not encrypted",
            "Write REDIS_URL with rediss://, if the server has TLS",
        )


POSTGRES = Check("postgres", "encryption", _postgres, Service.POSTGRES)
REDIS = Check("redis", "encryption", _redis, Service.REDIS)
