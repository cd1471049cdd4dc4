"""Certificates of a private authority, and a server that goes through the handshakes of TLS as real ones do."""

import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_DAY = timedelta(days=1)
_HERE = (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))


@dataclass(frozen=True)
class Authority:
    """A private authority; `pem` is its certificate."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        return _pem(self.certificate)

    def issue(
        self, *names: x509.GeneralName, since: timedelta = -_DAY, until: timedelta = _DAY, password: str | None = None
    ) -> tuple[str, str]:
        """Return a certificate and its key in PEM, by default of this machine and valid now."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issued")])
        made = _builder(subject, self.certificate.subject, key, since, until)
        made = made.add_extension(x509.SubjectAlternativeName(list(names or _HERE)), critical=False)
        return _pem(made.sign(self.key, hashes.SHA256())), _key_pem(key, password)


def new_authority() -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a private authority")])
    made = _builder(name, name, key, -5 * _DAY, 5 * _DAY)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return Authority(made.sign(key, hashes.SHA256()), key)


def server_context(directory: Path, certificate: tuple[str, str], *, client_ca: str | None = None) -> ssl.SSLContext:
    """Return a server's context; with `client_ca` it requires a client certificate of that authority."""
    file = directory / "server.pem"
    file.write_text("".join(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client_ca)
    return context


@contextmanager
def running_tls(context: ssl.SSLContext, *, secure: bool) -> Iterator[int]:
    """Run an SMTP server and yield its port. `secure`: TLS begins with the first byte, else by STARTTLS.

    It uses blocking sockets: asyncio's servers send no alert when they refuse a client.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def run() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

        def serve(connection: socket.socket) -> None:
            connection.settimeout(10)
            with suppress(OSError):
                _converse(connection, context, secure=secure)

        threading.Thread(target=run, daemon=True).start()
        yield int(listening.getsockname()[1])
        listening.shutdown(socket.SHUT_RDWR)


def _converse(connection: socket.socket, context: ssl.SSLContext, *, secure: bool) -> None:
    try:
        if secure:
            connection = context.wrap_socket(connection, server_side=True)
        connection.sendall(b"220 here\r\n")
        while line := _line(connection):
            encrypted = isinstance(connection, ssl.SSLSocket)
            if line.startswith(b"STARTTLS"):
                connection.sendall(b"220 go on\r\n")
                connection = context.wrap_socket(connection, server_side=True)
            elif line.startswith(b"EHLO"):
                connection.sendall(b"250 here\r\n" if encrypted else b"250-here\r\n250 STARTTLS\r\n")
            else:
                connection.sendall(b"250 ok\r\n")
    finally:
        connection.close()


def _line(connection: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n") and (byte := connection.recv(1)):
        line += byte
    return line


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, since: timedelta, until: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
    return made.not_valid_before(now + since).not_valid_after(now + until)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey, password: str | None) -> str:
    encryption = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()
