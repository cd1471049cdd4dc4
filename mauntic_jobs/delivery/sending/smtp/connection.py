"""SMTP client that reports the fate of every message."""

import asyncio
from collections.abc import Callable
from typing import NoReturn

from mauntic_jobs.delivery import failpoints
from mauntic_jobs.delivery.render.mime import Mime
from mauntic_jobs.delivery.render.renderer import ContentError
from mauntic_jobs.delivery.sending.allowed_networks import Network
from mauntic_jobs.delivery.sending.outcome import Outcome, Verdict
from mauntic_jobs.delivery.sending.smtp.commands import commands
from mauntic_jobs.delivery.sending.smtp.login import Ended, Features, SmtpServer, connect, log_on
from mauntic_jobs.delivery.sending.smtp.verdicts import SmtpStage, is_about_session, queue_id_of, refusal
from mauntic_jobs.delivery.sending.smtp.wire import OK, SHUTTING_DOWN, LostError, NotSmtpError, Reply, Wire

_GO_ON = range(300, 400)
# What fits into the buffers of the network, so that it is unknown how much of it has arrived.
_SMALL = 64 * 1024
# Postfix pauses before each answer after ten errors in a row, and one refused message is three of them.
_MAX_REFUSALS = 3
_ENVELOPE = (SmtpStage.SENDER, SmtpStage.RECIPIENT, SmtpStage.DATA)


class SmtpConnection:
    """A connection that is kept between messages, and opened again when it has ended. One message at a time."""

    def __init__(self, server: SmtpServer, network: Network, *, timeout: float) -> None:
        self._server = server
        self._network = network
        self._timeout = timeout
        self._wire: Wire | None = None
        self._opened: Wire | None = None
        self._features = Features()
        self._unfinished = False
        self._may_repeat = False
        self._aborted = False
        self._refusals = 0
        self._opening: asyncio.Task[tuple[Wire, Features]] | None = None
        self.idle_since = 0.0

    @property
    def is_open(self) -> bool:
        """Whether it is connected and logged in."""
        return self._wire is not None

    @property
    def is_worn(self) -> bool:
        """Whether so many messages in a row were refused that servers answer this connection more slowly."""
        return self._refusals >= _MAX_REFUSALS

    async def send(self, sender: str, recipient: str, compose: Callable[[Features], Mime]) -> Outcome:
        """Send what `compose` returns for a server of these features; what fails is in the outcome.

        Before the content and after it the server is given `timeout` seconds each. Raises ContentError of `compose`.
        """
        kept = self._wire is not None and self._wire.is_quiet
        self._may_repeat = kept
        try:
            return await self._send(sender, recipient, compose)
        except Ended as ended:
            if not self._may_repeat or self._wire is not None or self._aborted:
                return ended.outcome
        # A connection that was kept may have been closed in the meantime, or carry no further message. That says
        # nothing about the server, and a new one may do.
        try:
            return await self._send(sender, recipient, compose)
        except Ended as ended:
            return ended.outcome

    async def check(self, sender: str | None, recipient: str) -> Outcome:
        """Log in, ask to send from one address to the other, and take it back: nothing is sent.

        ACCEPTED if messages could follow; `reason` says what was asked. Without a sender it only logs in. A refusal of
        the recipient counts if it blames the sender or the session: another recipient might be taken.
        """
        try:
            async with asyncio.timeout(self._timeout):
                wire = await self._ready(sender)
                if sender is None:
                    return Outcome(Verdict.ACCEPTED, "logged in; it has no `from` to ask for more with")
                return Outcome(Verdict.ACCEPTED, await self._asked(wire, sender, recipient))
        except Ended as ended:
            return ended.outcome
        except (TimeoutError, LostError, OSError) as error:
            problem = self._silence() if isinstance(error, TimeoutError) else str(error)
            return self._dropped(Verdict.PROVIDER, problem).outcome

    async def _asked(self, wire: Wire, sender: str, recipient: str) -> str:
        """Return what was asked and not refused. Raises Ended."""
        # Addresses are masked wherever reasons are shown; this one names no person.
        asked = f"asked to send from its `from` to {recipient.replace('@', ' of ')}"
        wire.write(f"MAIL FROM:<{sender}>\r\n".encode())
        self._check(0, await wire.reply())
        wire.write(f"RCPT TO:<{recipient}>\r\n".encode())
        reply = await wire.reply()
        if reply.code not in OK:
            refused = refusal(SmtpStage.RECIPIENT, reply)
            if refused.verdict is Verdict.PROVIDER:
                raise Ended(refused)
            return f"{asked}; {refused.reason}, which need not be so for others"
        wire.write(b"RSET\r\n")
        await wire.reply()
        return asked

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
            wire = await self._ready_by(until, sender)
            wire.wait_until(until)
            content, envelope = commands(self._server.host, self._features, sender, recipient, compose(self._features))
            verdict = Verdict.TEMPORARY
            await self._open(wire, envelope)
            self._may_repeat, kept = False, self._may_repeat
            failpoints.reach("before-content")
            await _write(wire, content)
            verdict = Verdict.UNKNOWN
            failpoints.reach("after-content")
            wire.wait_until(now() + self._timeout)
            reply = await wire.reply()
            # A refusal proves that it was not sent.
            self._may_repeat = kept
            return self._judged(reply)
        except TimeoutError:
            self._may_repeat = False
            raise self._dropped(verdict, self._silence()) from None
        except NotSmtpError as error:
            verdict = Verdict.PROVIDER if verdict is Verdict.TEMPORARY else verdict
            raise self._dropped(verdict, str(error)) from None
        except (LostError, OSError) as error:
            raise self._dropped(verdict, str(error)) from None
        except (Ended, ContentError):
            raise
        except Exception as error:
            # A fault of ours: how far it came is known all the same.
            raise self._dropped(verdict, f"{type(error).__name__}: {error}") from error
        except asyncio.CancelledError:
            # What the server answers to this message is not to be taken for the answer to the next.
            self._drop()
            raise
        finally:
            self.idle_since = now()

    def _judged(self, reply: Reply) -> Outcome:
        """Return the outcome of the reply to the content. Raises Ended if it is refused."""
        if reply.code not in OK:
            self._refused(SmtpStage.CONTENT, reply)
        self._refusals = 0
        return Outcome(Verdict.ACCEPTED, queue_id=queue_id_of(reply))

    async def _open(self, wire: Wire, envelope: list[bytes]) -> None:
        """Go as far as the server's wish to have the content."""
        reset = [b"RSET\r\n"] if self._unfinished else []
        self._unfinished = True
        if self._features.pipelining:
            wire.write(b"".join([*reset, *envelope]))
            for _ in reset:
                self._check_reset(await wire.reply())
            replies = await self._replies(wire, len(envelope))
            refused = [place for place, reply in enumerate(replies[:-1]) if reply.code not in OK]
            if replies[-1].code in _GO_ON and refused:
                # It wants a content although it has no recipient: an empty one, which goes nowhere.
                wire.write(b".\r\n")
                await wire.reply()
            for place, reply in enumerate(replies):
                self._check(place, reply)
        else:
            for command in reset:
                wire.write(command)
                self._check_reset(await wire.reply())
            for place, command in enumerate(envelope):
                wire.write(command)
                self._check(place, await wire.reply())
        self._unfinished = False

    async def _replies(self, wire: Wire, count: int) -> list[Reply]:
        """Return the replies to commands that were sent at once. Raises Ended if the server refuses one and closes."""
        replies: list[Reply] = []
        try:
            while len(replies) < count:
                replies.append(await wire.reply())
                if replies[-1].code == SHUTTING_DOWN:
                    # Nothing follows it.
                    self._check(len(replies) - 1, replies[-1])
        except LostError:
            for place, reply in enumerate(replies):
                self._check(place, reply)
            raise
        return replies

    def _check_reset(self, reply: Reply) -> None:
        if reply.code not in OK:
            raise self._dropped(Verdict.PROVIDER, f"RSET: {reply}")

    def _check(self, place: int, reply: Reply) -> None:
        """Raise unless the reply to MAIL (0), RCPT (1) or DATA (2) is as it should be."""
        stage = _ENVELOPE[place]
        if reply.code not in (_GO_ON if stage is SmtpStage.DATA else OK):
            self._refused(stage, reply)

    def _refused(self, stage: SmtpStage, reply: Reply) -> NoReturn:
        self._refusals += 1
        if is_about_session(reply):
            self._drop()
        elif reply.code in _GO_ON or reply.code in OK:
            # Its answers are those to other commands than ours.
            self._drop()
            self._may_repeat = False
        raise Ended(refusal(stage, reply))

    async def _ready_by(self, until: float, sender: str) -> Wire:
        if self._wire is not None and self._wire.is_quiet and not self._aborted:
            return self._wire
        async with asyncio.timeout_at(until):
            return await self._ready(sender)

    async def _ready(self, sender: str | None) -> Wire:
        """Return a connection on which a message of a sender may be begun."""
        if self._aborted:
            raise Ended(Outcome(Verdict.TEMPORARY, "stopped"))
        if self._wire is not None and self._wire.is_quiet:
            return self._wire
        if self._wire is not None:
            self._drop()
        # A task of its own, so that it can be ended without ending the caller.
        self._opening = asyncio.ensure_future(self._log_on(sender))
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

    async def _log_on(self, sender: str | None) -> tuple[Wire, Features]:
        self._opened = None
        self._opened = wire = await connect(self._server, self._network)
        return wire, await log_on(wire, self._server, sender)

    def _silence(self) -> str:
        """Return what has not come in time."""
        greeted = self._wire is not None or self._opened is None or self._opened.has_heard
        if greeted or self._server.secure:
            return f"no answer for {self._timeout:g} s"
        return f"no greeting for {self._timeout:g} s. If port {self._server.port} begins with TLS, set secure to true"

    def _dropped(self, verdict: Verdict, reason: str) -> Ended:
        self._drop()
        return Ended(Outcome(verdict, f"{self._server.host}: {reason}"))

    def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.abort()


async def _write(wire: Wire, content: bytes) -> None:
    """Write the content; the end of a large one only when the rest is on its way."""
    wire.write(content if len(content) <= _SMALL else content[:-3])
    if len(content) > _SMALL:
        await wire.flushed()
        wire.write(content[-3:])


def _close_unused(opening: asyncio.Task[tuple[Wire, Features]]) -> None:
    # It may have ended in the moment in which it was no longer wanted.
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[0].abort()
