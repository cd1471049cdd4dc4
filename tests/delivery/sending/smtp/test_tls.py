"""TLS of SMTP servers: what fails, what is said to change, and what is then accepted."""

import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography import x509

from mauntic_jobs.delivery.sending.outcome import Outcome, Verdict
from mauntic_jobs.delivery.sending.providers.config import ProviderConfig, ProviderError, hide
from mauntic_jobs.delivery.sending.providers.idle import IdleConnections
from mauntic_jobs.delivery.sending.providers.smtp import SmtpProvider
from mauntic_jobs.delivery.sending.smtp import tls as smtp_tls
from mauntic_jobs.settings.settings import Settings
from tests.delivery.authority import Authority, new_authority, running_tls, server_context
from tests.delivery.scripted import running_script
from tests.delivery.sending.smtp.test_connection import HERE
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.support import run_on_loop

DAY = timedelta(days=1)
PASSPHRASE = "not-a-real-one"  # noqa: S105 - as it says


@pytest.fixture(scope="module")
def authority() -> Authority:
    return new_authority()


def provider(port: int, *, ca_file: Path | None = None, timeout: float = 3, **values: Any) -> SmtpProvider:
    given = {"host": "127.0.0.1", "port": port, "from": "news@acme.test", **values}
    config = ProviderConfig(uuid4(), "custom_smtp", given)
    return SmtpProvider(config, HERE, timeout=timeout, idle=IdleConnections(), ca_file=ca_file)


def check(port: int, **values: Any) -> Outcome:
    return run_on_loop(provider(port, **values).check())


Make = Callable[[Authority], tuple[str, str]]
FAULTS: dict[str, tuple[Make, str]] = {
    "expired": (
        lambda own: own.issue(since=-3 * DAY, until=-DAY),
        "the server's certificate has expired. Renew it there",
    ),
    "not yet valid": (
        lambda own: own.issue(since=DAY, until=3 * DAY),
        "the server's certificate is not valid yet. Check the clocks of both hosts",
    ),
    "another name": (
        lambda own: own.issue(x509.DNSName("mail.example.net")),
        "the server's certificate is not for 127.0.0.1. Set tls.servername to a name that it is for",
    ),
    "another authority": (
        lambda _: new_authority().issue(),
        "the server's certificate is from an authority that is not trusted. Set tls.ca to its certificate",
    ),
}


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize(("make", "words"), FAULTS.values(), ids=FAULTS)
def test_a_certificate_that_is_not_valid_says_what_to_change(
    authority: Authority, tmp_path: Path, make: Make, words: str, *, secure: bool
) -> None:
    with running_tls(server_context(tmp_path, make(authority)), secure=secure) as port:
        outcome = check(port, secure=secure, tls={"ca": authority.pem})
    assert outcome.verdict is Verdict.PROVIDER
    assert f": {words}" in outcome.reason


@pytest.mark.parametrize("secure", [True, False])
def test_a_private_authority_can_be_configured(authority: Authority, tmp_path: Path, *, secure: bool) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(authority.pem)
    with running_tls(server_context(tmp_path, authority.issue()), secure=secure) as port:
        assert check(port, secure=secure).verdict is Verdict.PROVIDER
        assert check(port, secure=secure, tls={"ca": authority.pem}).verdict is Verdict.ACCEPTED
        assert check(port, secure=secure, ca_file=file).verdict is Verdict.ACCEPTED
        # A tenant that names its own authority trusts no other.
        other = {"ca": new_authority().pem}
        assert check(port, secure=secure, ca_file=file, tls=other).verdict is Verdict.PROVIDER
        assert check(port, secure=secure, tls={"rejectUnauthorized": False}).verdict is Verdict.ACCEPTED


def test_a_name_of_the_certificate_can_be_configured(authority: Authority, tmp_path: Path) -> None:
    issued = authority.issue(x509.DNSName("mail.example.net"))
    with running_tls(server_context(tmp_path, issued), secure=True) as port:
        named = {"ca": authority.pem, "servername": "mail.example.net"}
        assert check(port, secure=True, tls=named).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("secure", [True, False])
def test_a_required_client_certificate_is_named_and_can_be_configured(
    authority: Authority, tmp_path: Path, version: ssl.TLSVersion, *, secure: bool
) -> None:
    context = server_context(tmp_path, authority.issue(), client_ca=authority.pem)
    context.minimum_version = context.maximum_version = version
    with running_tls(context, secure=secure) as port:
        outcome = check(port, secure=secure, tls={"ca": authority.pem})
        assert outcome.verdict is Verdict.PROVIDER
        assert "a client certificate" in outcome.reason
        assert "et tls.cert and tls.key" in outcome.reason
        for password in (None, PASSPHRASE):
            cert, key = authority.issue(password=password)
            tls = {"ca": authority.pem, "cert": cert, "key": key, "passphrase": password}
            assert check(port, secure=secure, tls=tls).verdict is Verdict.ACCEPTED
        cert, key = new_authority().issue()
        refused = check(port, secure=secure, tls={"ca": authority.pem, "cert": cert, "key": key})
        assert refused.verdict is Verdict.PROVIDER


def test_an_old_tls_is_named(authority: Authority, tmp_path: Path) -> None:
    context = server_context(tmp_path, authority.issue())
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1 is deprecated"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    for secure in (True, False):
        with running_tls(context, secure=secure) as port:
            outcome = check(port, secure=secure, tls={"ca": authority.pem})
        assert outcome.reason.endswith("the server has no TLS 1.2 or newer. Update it")


def test_tls_on_a_plain_port_says_what_to_change(sink: Sink) -> None:
    outcome = check(sink.port, secure=True)
    assert outcome.verdict is Verdict.PROVIDER
    words = f"port {sink.port} does not begin with TLS. Set secure to false: STARTTLS is used then"
    assert outcome.reason == f"127.0.0.1:{sink.port}: {words}"


def test_no_tls_on_a_port_that_begins_with_it_says_what_to_change(authority: Authority, tmp_path: Path) -> None:
    with running_tls(server_context(tmp_path, authority.issue()), secure=True) as port:
        outcome = check(port, secure=False, timeout=0.5)
    assert outcome.verdict is Verdict.PROVIDER
    assert outcome.reason.endswith(f"no greeting for 0.5 s. If port {port} begins with TLS, set secure to true")


def test_a_server_that_closes_at_once_says_more_than_nothing() -> None:
    with running_script(b"") as server:
        for secure in (True, False):
            reason = check(server.port, secure=secure).reason
            assert len(reason.rpartition(": ")[2]) > 10


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        ({"ca": "x"}, "tls.ca is not a certificate in PEM"),
        ({"ca": "/etc/ssl/certs/ca-certificates.crt"}, "tls.ca is not a certificate in PEM"),
        ({"cert": "x"}, "tls.cert and tls.key are not a certificate and its key in PEM"),
        ({"cert": "x", "key": "y"}, "tls.cert and tls.key are not a certificate and its key in PEM"),
        ({"key": "y"}, "tls.cert is missing"),
        ({"ca": ["x"]}, "tls.ca is not a text"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_named(tls: dict[str, str], words: str) -> None:
    with pytest.raises(ProviderError, match=words):
        provider(25, tls=tls)


def test_a_key_with_a_wrong_passphrase_is_named_and_never_shown(authority: Authority) -> None:
    cert, key = authority.issue(password=PASSPHRASE)
    for passphrase in ("wrong", None):
        with pytest.raises(ProviderError, match=r"tls.cert and tls.key"):
            provider(25, tls={"cert": cert, "key": key, "passphrase": passphrase})
    config = provider(25).config
    values = {**config.values, "tls": {"cert": cert, "key": key, "passphrase": PASSPHRASE}}
    secrets = ProviderConfig(config.id, config.type, values).secrets
    assert hide(f"{key} {PASSPHRASE}", secrets) == "*** ***"


def test_the_setting_must_be_a_file_with_certificates(authority: Authority, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    with pytest.raises(ValueError, match="with certificates in PEM"):
        Settings(smtp_ca_file=file)
    file.write_text("x")
    with pytest.raises(ValueError, match="with certificates in PEM"):
        Settings(smtp_ca_file=file)
    file.write_text(authority.pem)
    assert Settings(smtp_ca_file=file).smtp_ca_file == file


def test_the_cause_stays_beside_the_messages_that_have_tried_it(
    world: World, authority: Authority, tmp_path: Path
) -> None:
    expired = authority.issue(since=-3 * DAY, until=-DAY)
    with running_tls(server_context(tmp_path, expired), secure=True) as port:
        world.provider("127.0.0.1", port, secure=True, tls={"ca": authority.pem})
        world.add(*(world.message(f"d{n}") for n in range(12)))
        world.deliver(concurrency={"email": 1})
    rows = world.ledger()
    assert {row["state"] for row in rows} == {"deferred"}
    assert all("the server's certificate has expired. Renew it there" in row["reason"] for row in rows)
    # After five failures it was left alone, and the others wait on the queue.
    assert (len(rows), len(world.jobs_in("wait"))) == (5, 7)


def test_the_authorities_of_the_machine_are_read_when_tls_begins(
    sink: Sink, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def machine_trust() -> ssl.SSLContext:
        read.append("read")
        return ssl.create_default_context()

    monkeypatch.setattr(smtp_tls, "machine_trust", machine_trust)
    smtp_tls.context_of.cache_clear()
    try:
        # It takes tens of milliseconds, in which no message moves.
        assert check(sink.port).verdict is Verdict.ACCEPTED
        assert read == []
        with running_tls(server_context(tmp_path, authority.issue()), secure=True) as port:
            assert "an authority that is not trusted" in check(port, secure=True).reason
        assert read == ["read"]
    finally:
        smtp_tls.context_of.cache_clear()
