"""TLS of SMTP connections: authorities, client certificates, and what to change when a handshake fails."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from mauntic_jobs.delivery.sending.providers.flags import flag
from mauntic_jobs.settings.certificates import machine_trust

# Numbers of OpenSSL's x509_vfy.h.
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = (62, 64)
_UNTRUSTED = (7, 18, 19, 20, 21)
_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_MESSAGE")
_MAX_CONTEXTS = 256
_CLIENT_CERTIFICATE = "tls.cert and tls.key"


class TlsError(ValueError):
    """A certificate or key cannot be used; the text names its provider key."""


@dataclass(frozen=True)
class Tls:
    """What is asked of a server's certificate, and shown to it. Certificates and keys are in PEM.

    `verify`: the certificate has to be valid, and that of `name`, or else of the host. `ca` is trusted instead of the
    machine's authorities, the file `ca_file` beside them.
    """

    verify: bool = True
    name: str | None = None
    ca: str | None = None
    ca_file: Path | None = None
    cert: str | None = None
    key: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)


def tls_of(values: Mapping[str, object]) -> Tls:
    """Return what a provider's key `tls` asks for, as nodemailer reads it. Raises TlsError."""
    given = values.get("tls")
    tls = given if isinstance(given, Mapping) else {}
    texts = {name: tls.get(name) or None for name in ("servername", "ca", "cert", "key", "passphrase")}
    for key, text in texts.items():
        if text is not None and not isinstance(text, str):
            raise TlsError(f"tls.{key} is not a text")
    verify = flag(tls.get("rejectUnauthorized", True)) is not False
    result = Tls(verify=verify, name=texts.pop("servername"), **texts)
    if result != Tls():
        # It says now what is wrong. The machine's own authorities take long to read: not before TLS is begun.
        context_of(result)
    return result


@lru_cache(maxsize=_MAX_CONTEXTS)
def context_of(tls: Tls) -> ssl.SSLContext:
    """Return the context of connections. Raises TlsError."""
    try:
        context = machine_trust() if tls.ca is None else ssl.create_default_context(cadata=tls.ca)
    except ssl.SSLError:
        raise TlsError("tls.ca is not a certificate in PEM") from None
    if tls.ca_file is not None:
        context.load_verify_locations(tls.ca_file)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert is not None:
        _load_certificate(context, tls.cert, tls.key, tls.passphrase)
    elif tls.key is not None:
        raise TlsError("tls.cert is missing")
    return context


def _load_certificate(context: ssl.SSLContext, cert: str, key: str | None, passphrase: str | None) -> None:
    # OpenSSL reads them from a file only; without a password it would ask for one on the terminal.
    with TemporaryDirectory() as directory:
        file = Path(directory) / "client.pem"
        file.touch(mode=0o600)
        file.write_text(f"{key or ''}\n{cert}\n", encoding="utf-8")
        try:
            context.load_cert_chain(file, password=passphrase or "")
        except (ssl.SSLError, ValueError):
            raise TlsError(f"{_CLIENT_CERTIFICATE} are not a certificate and its key in PEM") from None


def handshake_problem(error: OSError, *, name: str, port: int, secure: bool, tls: Tls) -> str:
    """Return why a handshake failed, and what to change."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate_problem(error, name)
    reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
    if secure and reason in _NOT_TLS:
        return f"port {port} does not begin with TLS. Set secure to false: STARTTLS is used then"
    if "PROTOCOL" in reason:
        return "the server has no TLS 1.2 or newer. Update it"
    if "CERTIFICATE" in reason or "UNKNOWN_CA" in reason or "HANDSHAKE_FAILURE" in reason:
        return _refused_client(reason, tls)
    return str(error) or "the server broke off the TLS handshake"


def _refused_client(reason: str, tls: Tls) -> str:
    if tls.cert is not None:
        return f"the server does not accept the client certificate ({reason}). Replace {_CLIENT_CERTIFICATE}"
    if "CERTIFICATE" in reason:
        return f"the server requires a client certificate. Set {_CLIENT_CERTIFICATE}"
    return (
        f"the server refused the TLS handshake. If it requires a client certificate, set {_CLIENT_CERTIFICATE}; "
        "if not, it has no cipher that is still safe"
    )


def loss_problem(problem: str, tls: Tls) -> str:
    """Return what a loss of the connection means before the server's first word in TLS."""
    if tls.cert is not None:
        return problem
    # TLS 1.3 refuses a client only after the handshake.
    return f"{problem} as TLS had begun. If the server requires a client certificate, set {_CLIENT_CERTIFICATE}"


def _certificate_problem(error: ssl.SSLCertVerificationError, name: str) -> str:
    code = error.verify_code
    if code == _EXPIRED:
        return "the server's certificate has expired. Renew it there"
    if code == _NOT_YET_VALID:
        return "the server's certificate is not valid yet. Check the clocks of both hosts"
    if code in _OTHER_NAME:
        return f"the server's certificate is not for {name}. Set tls.servername to a name that it is for"
    if code in _UNTRUSTED:
        return (
            "the server's certificate is from an authority that is not trusted. Set tls.ca to its certificate, "
            "or smtp_ca_file to a file with it"
        )
    return f"the server's certificate is not valid: {error.verify_message}"
