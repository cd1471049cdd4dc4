"""Sending over SMTP, phase by phase, so that it is known of every message what became of it."""

import asyncio
import re
from collections.abc import Callable
from typing import NoReturn

from mauntic_jobs.delivery import failpoints
from mauntic_jobs.delivery.mime import Mime
from mauntic_jobs.delivery.network import Network
from mauntic_jobs.delivery.outcome import Outcome, RejectReason, Verdict
from mauntic_jobs.delivery.smtp_login import Ended, Features, SmtpServer, log_on
from mauntic_jobs.delivery.smtp_replies import Blame, blame_of
from mauntic_jobs.delivery.smtp_wire import OK, LostError, Reply, Wire

_GO_ON = range(300, 400)
_PERMANENT = range(500, 600)
_SHUTTING_DOWN = 421
# About the login, the encryption, the order of commands or the sender's server, whatever command they answer.
_PROVIDER_CODES = frozenset({_SHUTTING_DOWN, 454, 503, 530, 534, 535, 538})
# What fits into the buffers of the network, so that nobody can tell how much of it has arrived.
_SMALL = 64 * 1024
# As Postfix, Exim, Exchange, Sendmail, Google and Amazon name what they have queued.
_QUEUE_ID = re.compile(
    r"queued as ([\w.-]{4,64})|\bid=([\w.-]{4,64})|\bInternalId=(\d{4,64})|^(?:2\.\d\.\d )?(\w{8,64}) Message accepted"
    r"|^(?:2\.\d\.\d )?OK +\d+ ([\w.-]{4,64}) - gsmtp|^(?:2\.\d\.\d )?Ok ([0-9a-f]{8,64}[\w-]{0,64})$",
    re.IGNORECASE,
)
_LONGEST_REPLY = 500
_ENVELOPE = ("the sender", "the recipient", "DATA")


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
        self._opening: asyncio.Task[tuple[Wire, Features]] | None = None
        self.idle_since = 0.0

    async def send(self, sender: str, recipient: str, compose: Callable[[Features], Mime]) -> Outcome:
        """Send what `compose` returns for a server of these features; what fails is in the outcome.

        Before the content and after it the server is given `timeout` seconds each. Raises what `compose` raises.
        """
        kept = self._wire is not None and self._wire.is_quiet
        self._may_repeat = kept
        try:
            return await self._send(sender, recipient, compose)
        except Ended as ended:
            if self._wire is not None or not self._may_repeat or self._aborted:
                return ended.outcome
        # A connection that was kept may have been closed in the meantime, which says nothing about the server.
        try:
            return await self._send(sender, recipient, compose)
        except Ended as ended:
            return ended.outcome

    async def check(self) -> Outcome:
        """Connect and log in; ACCEPTED if a message could follow."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._ready()
        except Ended as ended:
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
        now = asyncio.get_running_loop().time
        until = now() + self._timeout
        try:
            wire = await self._ready_by(until)
            wire.wait_until(until)
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
            wire.wait_until(now() + self._timeout)
            return self._judged(await wire.reply())
        except TimeoutError:
            self._may_repeat = False
            raise self._dropped(verdict, f"{self._server.host}: no answer for {self._timeout:g} s") from None
        except (LostError, OSError) as error:
            raise self._dropped(verdict, f"{self._server.host}: {error}") from None
        except asyncio.CancelledError:
            # What the server answers to this message is not to be taken for the answer to the next.
            self._drop()
            raise
        finally:
            self.idle_since = now()

    def _judged(self, reply: Reply) -> Outcome:
        """Return the outcome of the reply to the content."""
        if reply.code in OK:
            return Outcome(Verdict.ACCEPTED, queue_id=queue_id_of(reply))
        if reply.code == _SHUTTING_DOWN:
            self._drop()
        reason = f"the content was refused: {reply}"
        if reply.code in _PROVIDER_CODES:
            return Outcome(Verdict.PROVIDER, reason)
        if reply.code not in _PERMANENT:
            return Outcome(Verdict.TEMPORARY, reason)
        blame = _blame_of(reply)
        if blame is Blame.SENDER:
            return Outcome(Verdict.PROVIDER, reason)
        return Outcome(Verdict.PERMANENT, reason, reject=_reject_reason(blame, at_recipient=False))

    def _written(self, sender: str, recipient: str, mime: Mime) -> tuple[bytes, list[bytes]]:
        """Return the content as it goes over the wire, and the commands before it."""
        features = self._features
        if mime.needs_smtputf8 and not features.utf8:
            reason = f"{self._server.host} takes no addresses in UTF-8 (SMTPUTF8)"
            raise Ended(Verdict.PERMANENT, reason)
        if features.size and len(mime.content) > features.size:
            reason = f"the message has {len(mime.content):,} bytes, and {self._server.host} takes {features.size:,}"
            raise Ended(Verdict.PERMANENT, reason)
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
            for _ in reset:
                self._check_reset(await wire.reply())
            mail, recipient, data = [await self._unless_shut(wire) for _ in envelope]
            if data.code in _GO_ON and not (mail.code in OK and recipient.code in OK):
                # It wants a content although it has no recipient: an empty one, which goes nowhere.
                wire.write(b".\r\n")
                await wire.reply()
            self._check(0, mail)
            self._check(1, recipient)
            self._check(2, data)
        else:
            for command in reset:
                wire.write(command)
                self._check_reset(await wire.reply())
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

    def _check_reset(self, reply: Reply) -> None:
        if reply.code not in OK:
            raise self._dropped(Verdict.PROVIDER, f"{self._server.host}: RSET: {reply}")

    def _check(self, place: int, reply: Reply) -> None:
        """Raise unless the reply to MAIL (0), RCPT (1) or DATA (2) is as it should be."""
        if reply.code not in (_GO_ON if place == len(_ENVELOPE) - 1 else OK):
            self._refused(_ENVELOPE[place], reply, at_recipient=_ENVELOPE[place] == "the recipient")

    def _refused(self, what: str, reply: Reply, *, at_recipient: bool = False) -> NoReturn:
        reason = f"{what} was refused: {reply}"
        if reply.code == _SHUTTING_DOWN:
            raise self._dropped(Verdict.PROVIDER, reason)
        if reply.code in _PROVIDER_CODES:
            raise Ended(Verdict.PROVIDER, reason)
        if reply.code not in _PERMANENT:
            raise Ended(Verdict.TEMPORARY, reason)
        blame = _blame_of(reply)
        if blame is Blame.SENDER or (blame is Blame.MAILBOX and what == _ENVELOPE[0]):
            # The sender's account may send nothing like it here: the next provider may.
            raise Ended(Verdict.PROVIDER, reason)
        raise Ended(Verdict.PERMANENT, reason, reject=_reject_reason(blame, at_recipient=at_recipient))

    async def _ready_by(self, until: float) -> Wire:
        if self._wire is not None and self._wire.is_quiet and not self._aborted:
            return self._wire
        async with asyncio.timeout_at(until):
            return await self._ready()

    async def _ready(self) -> Wire:
        """Return a connection on which a message may be begun."""
        if self._aborted:
            raise Ended(Verdict.TEMPORARY, "stopped")
        if self._wire is not None and self._wire.is_quiet:
            return self._wire
        if self._wire is not None:
            self._drop()
        # A task of its own, so that it can be ended without ending the caller.
        self._opening = asyncio.ensure_future(log_on(self._server, self._network))
        try:
            wire, self._features = await self._opening
        except asyncio.CancelledError:
            self._opening.cancel()
            self._opening.add_done_callback(_close_unused)
            if not self._aborted:
                raise
            raise self._dropped(Verdict.TEMPORARY, "stopped") from None
        finally:
            self._opening = None
        self._wire, self._unfinished = wire, False
        return wire

    def _dropped(self, verdict: Verdict, reason: str) -> Ended:
        self._drop()
        return Ended(verdict, reason)

    def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.abort()


def queue_id_of(reply: Reply) -> str | None:
    """Return the id that a server's reply to the content names, or None."""
    found = _QUEUE_ID.search(" ".join(reply.lines)[:_LONGEST_REPLY])
    return found[found.lastindex or 0] if found else None


def _close_unused(opening: asyncio.Task[tuple[Wire, Features]]) -> None:
    # It may have ended in the moment in which it was no longer wanted.
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[0].abort()


def _blame_of(reply: Reply) -> Blame:
    return blame_of(" ".join(reply.lines)[:_LONGEST_REPLY])


def _reject_reason(blame: Blame, *, at_recipient: bool) -> RejectReason:
    if blame is Blame.POLICY:
        return RejectReason.BLOCKED
    # After the content servers say the same of what they do not like.
    return RejectReason.BOUNCED if blame is Blame.MAILBOX and at_recipient else RejectReason.OTHER
