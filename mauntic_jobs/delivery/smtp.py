"""Sending over SMTP, phase by phase, so that it is known of every message what became of it."""

import asyncio
import base64
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import NoReturn

from mauntic_jobs.delivery import failpoints
from mauntic_jobs.delivery.mime import Mime
from mauntic_jobs.delivery.network import Network, NetworkError
from mauntic_jobs.delivery.outcome import Outcome, RejectReason, Verdict
from mauntic_jobs.delivery.smtp_wire import LostError, Reply, Wire

_OK = range(200, 300)
_GO_ON = range(300, 400)
_PERMANENT = range(500, 600)
_SHUTTING_DOWN = 421
# About the login, the encryption or the sender's server, whatever command they answer.
_PROVIDER_CODES = frozenset({_SHUTTING_DOWN, 454, 530, 534, 535, 538})
_NO_MAILBOX = frozenset({550, 551, 553})
# What fits into the buffers of the network, so that nobody can tell how much of it has arrived.
_SMALL = 64 * 1024
_ENVELOPE = ("the sender", "the recipient", "DATA")


@dataclass(frozen=True)
class SmtpServer:
    """Where and how to log in. `secure`: TLS from the first byte, else STARTTLS where it is offered."""

    host: str
    port: int
    secure: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    hello: str = "localhost"


@dataclass(frozen=True)
class Features:
    """What a server announced; `size` is the most bytes that it takes, 0 if it does not say."""

    eight_bit: bool = False
    utf8: bool = False
    pipelining: bool = False
    size: int = 0
    starttls: bool = False
    auth: frozenset[str] = frozenset()


class _Ended(Exception):  # noqa: N818 - it is no error, but the outcome
    def __init__(self, verdict: Verdict, reason: str, *, reject: RejectReason | None = None) -> None:
        self.outcome = Outcome(verdict, reason, reject=reject)


class SmtpConnection:
    """A connection that is kept between messages, and opened again when it has ended. One message at a time."""

    def __init__(self, server: SmtpServer, network: Network, *, timeout: float) -> None:
        self._server = server
        self._network = network
        self._timeout = timeout
        self._wire: Wire | None = None
        self._features = Features()
        self._unfinished = False
        self._may_repeat = False
        self._aborted = False
        self._opening: asyncio.Task[Wire] | None = None
        self.idle_since = 0.0

    async def send(self, sender: str, recipient: str, compose: Callable[[Features], Mime]) -> Outcome:
        """Send what `compose` returns for a server of these features; what fails is in the outcome.

        Before the content and after it the server is given `timeout` seconds each. Raises what `compose` raises.
        """
        kept = self._wire is not None and self._wire.is_quiet
        self._may_repeat = kept
        try:
            return await self._send(sender, recipient, compose)
        except _Ended as ended:
            if self._wire is not None or not self._may_repeat or self._aborted:
                return ended.outcome
        # A connection that was kept may have been closed in the meantime, which says nothing about the server.
        try:
            return await self._send(sender, recipient, compose)
        except _Ended as ended:
            return ended.outcome

    async def check(self) -> Outcome:
        """Connect and log in; ACCEPTED if a message could follow."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._ready()
        except _Ended as ended:
            return ended.outcome
        except (TimeoutError, LostError, OSError) as error:
            problem = str(error) or f"no answer for {self._timeout:g} s"
            return self._dropped(Verdict.PROVIDER, f"{self._server.host}: {problem}").outcome
        return Outcome(Verdict.ACCEPTED)

    def abort(self) -> None:
        """End the exchange now: `send` returns what it has come to."""
        self._aborted = True
        if self._opening is not None:
            self._opening.cancel()
        if self._wire is not None:
            self._wire.abort()

    async def close(self) -> None:
        """Say goodbye, without waiting for the answer."""
        wire, self._wire = self._wire, None
        if wire is not None and wire.is_quiet:
            wire.write(b"QUIT\r\n")
        if wire is not None:
            await wire.close()

    async def _send(self, sender: str, recipient: str, compose: Callable[[Features], Mime]) -> Outcome:
        verdict = Verdict.PROVIDER
        try:
            async with asyncio.timeout(self._timeout):
                wire = await self._ready()
                content, envelope = self._written(sender, recipient, compose(self._features))
                verdict = Verdict.TEMPORARY
                await self._open(wire, envelope)
                self._may_repeat = False
                failpoints.reach("before-content")
                wire.write(content if len(content) <= _SMALL else content[:-3])
                if len(content) > _SMALL:
                    await wire.flushed()
                    wire.write(content[-3:])
                verdict = Verdict.UNKNOWN
            failpoints.reach("after-content")
            async with asyncio.timeout(self._timeout):
                return self._judged(await wire.reply())
        except TimeoutError:
            self._may_repeat = False
            raise self._dropped(verdict, f"{self._server.host}: no answer for {self._timeout:g} s") from None
        except (LostError, OSError) as error:
            raise self._dropped(verdict, f"{self._server.host}: {error}") from None
        finally:
            self.idle_since = asyncio.get_running_loop().time()

    def _judged(self, reply: Reply) -> Outcome:
        """Return the outcome of the reply to the content."""
        if reply.code in _OK:
            return Outcome(Verdict.ACCEPTED)
        if reply.code == _SHUTTING_DOWN:
            self._drop()
        verdict = Verdict.PERMANENT if reply.code in _PERMANENT else Verdict.TEMPORARY
        return Outcome(verdict, f"the content was refused: {reply}")

    def _written(self, sender: str, recipient: str, mime: Mime) -> tuple[bytes, list[bytes]]:
        """Return the content as it goes over the wire, and the commands before it."""
        features = self._features
        if mime.needs_smtputf8 and not features.utf8:
            reason = f"{self._server.host} takes no addresses in UTF-8 (SMTPUTF8)"
            raise _Ended(Verdict.PERMANENT, reason)
        if features.size and len(mime.content) > features.size:
            reason = f"the message has {len(mime.content):,} bytes, and {self._server.host} takes {features.size:,}"
            raise _Ended(Verdict.PERMANENT, reason)
        parameters = [f"SIZE={len(mime.content)}"] if features.size else []
        parameters += ["BODY=8BITMIME"] if mime.needs_8bit else []
        parameters += ["SMTPUTF8"] if mime.needs_smtputf8 else []
        envelope = [
            " ".join([f"MAIL FROM:<{sender}>", *parameters]).encode() + b"\r\n",
            f"RCPT TO:<{recipient}>\r\n".encode(),
            b"DATA\r\n",
        ]
        content = mime.content
        if content.startswith(b".") or b"\n." in content:
            content = content.replace(b"\n.", b"\n..")
            content = b"." + content if content.startswith(b".") else content
        return content + (b".\r\n" if content.endswith(b"\r\n") else b"\r\n.\r\n"), envelope

    async def _open(self, wire: Wire, envelope: list[bytes]) -> None:
        """Go as far as the server's wish to have the content."""
        reset = [b"RSET\r\n"] if self._unfinished else []
        self._unfinished = True
        if self._features.pipelining:
            wire.write(b"".join([*reset, *envelope]))
            replies = [await self._unless_shut(wire) for _ in (*reset, *envelope)]
            mail, recipient, data = replies[-3:]
            if data.code in _GO_ON and not (mail.code in _OK and recipient.code in _OK):
                # It wants a content although it has no recipient: an empty one, which goes nowhere.
                wire.write(b".\r\n")
                await wire.reply()
            self._check(0, mail)
            self._check(1, recipient)
            self._check(2, data)
        else:
            for command in reset:
                await self._expect(wire, command, "RSET")
            for place, command in enumerate(envelope):
                wire.write(command)
                self._check(place, await wire.reply())
        self._unfinished = False

    async def _unless_shut(self, wire: Wire) -> Reply:
        reply = await wire.reply()
        if reply.code == _SHUTTING_DOWN:
            # Nothing follows it.
            self._refused("the message", reply)
        return reply

    def _check(self, place: int, reply: Reply) -> None:
        """Raise unless the reply to MAIL (0), RCPT (1) or DATA (2) is as it should be."""
        if reply.code not in (_GO_ON if place == len(_ENVELOPE) - 1 else _OK):
            self._refused(_ENVELOPE[place], reply, at_recipient=_ENVELOPE[place] == "the recipient")

    def _refused(self, what: str, reply: Reply, *, at_recipient: bool = False) -> NoReturn:
        reason = f"{what} was refused: {reply}"
        if reply.code == _SHUTTING_DOWN:
            raise self._dropped(Verdict.PROVIDER, reason)
        if reply.code in _PROVIDER_CODES:
            raise _Ended(Verdict.PROVIDER, reason)
        if reply.code not in _PERMANENT:
            raise _Ended(Verdict.TEMPORARY, reason)
        bounced = at_recipient and _is_hard_bounce(reply)
        raise _Ended(Verdict.PERMANENT, reason, reject=RejectReason.BOUNCED if bounced else RejectReason.OTHER)

    async def _ready(self) -> Wire:
        """Return a connection on which a message may be begun."""
        if self._aborted:
            raise _Ended(Verdict.TEMPORARY, "stopped")
        if self._wire is not None and self._wire.is_quiet:
            return self._wire
        if self._wire is not None:
            self._drop()
        # A task of its own, so that it can be ended without ending the caller.
        self._opening = asyncio.ensure_future(self._log_on())
        try:
            return await self._opening
        except asyncio.CancelledError:
            if not self._aborted:
                self._opening.cancel()
                raise
            raise self._dropped(Verdict.TEMPORARY, "stopped") from None
        finally:
            self._opening = None

    async def _log_on(self) -> Wire:
        server = self._server
        try:
            addresses = await self._network.resolve(server.host, server.port)
        except NetworkError as error:
            raise _Ended(Verdict.PROVIDER, str(error)) from None
        self._wire = wire = await self._connected(addresses)
        self._unfinished = False
        await self._expect(wire, None, "the greeting")
        await self._greet(wire)
        if not server.secure and self._features.starttls:
            await self._expect(wire, b"STARTTLS\r\n", "STARTTLS")
            await wire.start_tls(_tls(), server.host)
            await self._greet(wire)
        if server.username is not None:
            if not wire.is_private:
                reason = f"{server.host} offers no TLS, and the password is not sent in the clear"
                raise self._dropped(Verdict.PROVIDER, reason)
            await self._log_in(wire)
        return wire

    async def _connected(self, addresses: list[str]) -> Wire:
        server = self._server
        tls = _tls() if server.secure else None
        problem = ""
        for address in addresses:
            try:
                return await Wire.connect(address, server.port, tls, server.host)
            except OSError as error:
                problem = str(error)
        raise _Ended(Verdict.PROVIDER, f"{server.host}:{server.port}: cannot connect: {problem}")

    async def _greet(self, wire: Wire) -> None:
        wire.write(f"EHLO {self._server.hello}\r\n".encode())
        reply = await wire.reply()
        if reply.code in _OK:
            self._features = _features(reply)
            return
        await self._expect(wire, f"HELO {self._server.hello}\r\n".encode(), "HELO")
        self._features = Features()

    async def _log_in(self, wire: Wire) -> None:
        username, password = self._server.username or "", self._server.password or ""
        if "PLAIN" in self._features.auth:
            words = [b"AUTH PLAIN " + _base64(f"\0{username}\0{password}")]
        elif "LOGIN" in self._features.auth:
            words = [b"AUTH LOGIN", _base64(username), _base64(password)]
        else:
            offered = ", ".join(sorted(self._features.auth)) or "no login"
            raise self._dropped(
                Verdict.PROVIDER, f"{self._server.host} offers {offered}: PLAIN and LOGIN are supported"
            )
        for place, word in enumerate(words):
            wire.write(word + b"\r\n")
            reply = await wire.reply()
            if reply.code not in (_OK if place == len(words) - 1 else _GO_ON):
                # Only the code: a server may repeat what it was told.
                raise self._dropped(Verdict.PROVIDER, f"{self._server.host} refused the login: {reply.code}")

    async def _expect(self, wire: Wire, command: bytes | None, what: str) -> None:
        if command is not None:
            wire.write(command)
        reply = await wire.reply()
        if reply.code not in _OK:
            raise self._dropped(Verdict.PROVIDER, f"{self._server.host}: {what}: {reply}")

    def _dropped(self, verdict: Verdict, reason: str) -> _Ended:
        self._drop()
        return _Ended(verdict, reason)

    def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.abort()


def _features(reply: Reply) -> Features:
    offered = [line.upper().replace("AUTH=", "AUTH ").split() for line in reply.lines[1:]]
    names = {words[0]: words[1:] for words in offered if words}
    size = names.get("SIZE", [])
    return Features(
        eight_bit="8BITMIME" in names,
        utf8="SMTPUTF8" in names,
        pipelining="PIPELINING" in names,
        size=int(size[0]) if size and size[0].isdigit() else 0,
        starttls="STARTTLS" in names,
        auth=frozenset(names.get("AUTH", [])),
    )


def _is_hard_bounce(reply: Reply) -> bool:
    """Whether the address does not exist: by the enhanced code 5.1.x, or where there is none by the code."""
    enhanced = reply.lines[0].split(" ", 1)[0] if reply.lines else ""
    if enhanced.count(".") == 2 and enhanced.startswith("5."):  # noqa: PLR2004 - class.subject.detail
        return enhanced.startswith("5.1.")
    return reply.code in _NO_MAILBOX


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _base64(text: str) -> bytes:
    return base64.b64encode(text.encode())
