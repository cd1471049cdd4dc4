"""Connection to an SMTP server, with TLS and login."""

import base64
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mauntic_jobs.delivery.sending.allowed_networks import Network, NetworkError
from mauntic_jobs.delivery.sending.outcome import Outcome, Verdict
from mauntic_jobs.delivery.sending.smtp.tls import Tls, context_of, handshake_problem, loss_problem
from mauntic_jobs.delivery.sending.smtp.verdicts import throttling
from mauntic_jobs.delivery.sending.smtp.wire import OK, SHUTTING_DOWN, LostError, NotSmtpError, Reply, Wire

_GO_ON = range(300, 400)
# Longer numbers are not read: Python refuses to convert them.
_MOST_DIGITS = 18


@dataclass(frozen=True)
class SmtpServer:
    """Where and how to log in. `secure`: TLS from the first byte, else STARTTLS where it is offered.

    `hello` is the name for EHLO, by default the domain of the sender. `require_tls`: nothing is sent without it;
    `ignore_tls`: STARTTLS is not asked for.
    """

    host: str
    port: int
    secure: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    hello: str | None = None
    require_tls: bool = False
    ignore_tls: bool = False
    tls: Tls = field(default_factory=Tls)

    @property
    def certified_name(self) -> str:
        """The name that the server's certificate has to be about."""
        return self.tls.name or self.host


@dataclass(frozen=True)
class Features:
    """What a server announced; `size` is the most bytes that it takes, 0 if it does not say."""

    eight_bit: bool = False
    utf8: bool = False
    pipelining: bool = False
    size: int = 0
    starttls: bool = False
    auth: frozenset[str] = frozenset()


class Ended(Exception):  # noqa: N818 - it is no error, but the outcome
    """A message goes no further."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


def _useless(reason: str) -> Ended:
    return Ended(Outcome(Verdict.PROVIDER, reason))


async def connect(server: SmtpServer, network: Network) -> Wire:
    """Return a connection on which nothing has been said. Raises Ended."""
    try:
        addresses = await network.resolve(server.host, server.port)
    except NetworkError as error:
        raise _useless(str(error)) from None
    return await _connected(server, addresses)


async def log_on(wire: Wire, server: SmtpServer, sender: str | None) -> Features:
    """Let messages of a sender be begun on a new connection. Raises Ended, LostError or OSError, and closes it then."""
    try:
        return await _welcomed(wire, server, server.hello or _domain_of(sender) or wire.address_literal)
    except BaseException:
        wire.abort()
        raise


def _domain_of(sender: str | None) -> str | None:
    return sender.rpartition("@")[2] if sender else None


async def _connected(server: SmtpServer, addresses: list[str]) -> Wire:
    tls = context_of(server.tls) if server.secure else None
    problem = ""
    for address in addresses:
        try:
            return await Wire.connect(address, server.port, tls, server.certified_name)
        except ssl.SSLError as error:
            raise _useless(f"{server.host}:{server.port}: {_problem(server, error)}") from None
        except OSError as error:
            problem = str(error) or "the server closed the connection at once"
    raise _useless(f"{server.host}:{server.port}: cannot connect: {problem}")


async def _welcomed(wire: Wire, server: SmtpServer, hello: str) -> Features:
    with _explained(server, after_tls=server.secure):
        await _expect(wire, server, None, "the greeting")
    features = await _greet(wire, server, hello)
    if not server.secure and not server.ignore_tls:
        if features.starttls:
            await _expect(wire, server, b"STARTTLS\r\n", "STARTTLS")
            with _explained(server, after_tls=True):
                await wire.start_tls(context_of(server.tls), server.certified_name)
                features = await _greet(wire, server, hello)
        elif server.require_tls:
            raise _useless(f"{server.host} offers no TLS, and requireTLS asks for it")
    if server.username is not None:
        if not wire.is_private:
            reason = f"{server.host} offers no TLS, and the password is not sent in the clear"
            raise _useless(reason)
        await _log_in(wire, server, features)
    return features


async def _greet(wire: Wire, server: SmtpServer, hello: str) -> Features:
    wire.write(f"EHLO {hello}\r\n".encode())
    reply = await wire.reply()
    if reply.code in OK:
        return _features(reply)
    refused = _useless(f"{server.host}: EHLO: {reply}")
    if reply.code == SHUTTING_DOWN:
        raise refused
    try:
        await _expect(wire, server, f"HELO {hello}\r\n".encode(), "HELO")
    except LostError:
        raise refused from None
    return Features()


async def _log_in(wire: Wire, server: SmtpServer, features: Features) -> None:
    username, password = server.username or "", server.password or ""
    if "PLAIN" in features.auth:
        words = [b"AUTH PLAIN " + _base64(f"\0{username}\0{password}")]
    elif "LOGIN" in features.auth:
        words = [b"AUTH LOGIN", _base64(username), _base64(password)]
    else:
        offered = ", ".join(sorted(features.auth)) or "no login"
        raise _useless(f"{server.host} offers {offered}: PLAIN and LOGIN are supported")
    for place, word in enumerate(words):
        wire.write(word + b"\r\n")
        reply = await wire.reply()
        if reply.code not in (OK if place == len(words) - 1 else _GO_ON):
            # Only the code: a server may repeat what it was told.
            raise _refusal(reply, f"{server.host} refused the login: {reply.code}")


async def _expect(wire: Wire, server: SmtpServer, command: bytes | None, what: str) -> None:
    if command is not None:
        wire.write(command)
    reply = await wire.reply()
    if reply.code not in OK:
        raise _refusal(reply, f"{server.host}: {what}: {reply}")


def _refusal(reply: Reply, reason: str) -> Ended:
    return Ended(throttling(reply, reason) or Outcome(Verdict.PROVIDER, reason))


def _features(reply: Reply) -> Features:
    offered = [line.upper().replace("AUTH=", "AUTH ").split() for line in reply.lines[1:]]
    names = {words[0]: words[1:] for words in offered if words}
    size = names.get("SIZE", [])
    return Features(
        eight_bit="8BITMIME" in names,
        utf8="SMTPUTF8" in names,
        pipelining="PIPELINING" in names,
        size=int(size[0]) if size and size[0].isdecimal() and len(size[0]) <= _MOST_DIGITS else 0,
        starttls="STARTTLS" in names,
        auth=frozenset(names.get("AUTH", [])),
    )


@contextmanager
def _explained(server: SmtpServer, *, after_tls: bool) -> Iterator[None]:
    """Say what to change where TLS fails, or the server closes the connection as it has begun."""
    try:
        yield
    except NotSmtpError:
        raise
    except LostError as error:
        problem = loss_problem(str(error), server.tls) if after_tls else str(error)
        raise _useless(f"{server.host}: {problem}") from None
    except OSError as error:
        raise _useless(f"{server.host}: {_problem(server, error)}") from None


def _problem(server: SmtpServer, error: OSError) -> str:
    return handshake_problem(error, name=server.certified_name, port=server.port, secure=server.secure, tls=server.tls)


def _base64(text: str) -> bytes:
    return base64.b64encode(text.encode())
