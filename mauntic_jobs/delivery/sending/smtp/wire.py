"""The lines of an SMTP connection, without what they mean."""

import asyncio
import re
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from ssl import SSLContext
from typing import NamedTuple, cast

# The replies that say yes.
OK = range(200, 300)
# The server ends the connection, whatever command it answers.
SHUTTING_DOWN = 421

_MOST_UNREAD = 64 * 1024
_MOST_LINES = 100
# RFC 5321 allows 512; nothing that speaks SMTP comes near this.
_LONGEST_LINE = 8 * 1024
_REPLY = re.compile(r"[2-5][0-9]{2}(?:[ -]|$)")
_CLOSE_SECONDS = 1


class LostError(Exception):
    """The connection has ended."""


class NotSmtpError(LostError):
    """The server does not speak SMTP; the connection has been ended."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the server does not speak SMTP: {problem}")


class Reply(NamedTuple):
    """A server's reply: its code, and its lines without it."""

    code: int
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.code} {' '.join(self.lines)}"[:300]


class Wire(asyncio.Protocol):
    """One connection: commands go out as bytes, replies come in one by one."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._unread = bytearray()
        self._lines: list[str] = []
        self._lost: str | None = None
        self._until = 0.0
        self._is_late = False
        self._timer: asyncio.TimerHandle | None = None
        self._news: asyncio.Future[None] | None = None
        self._flowing: asyncio.Future[None] | None = None
        self.has_heard = False
        self._ended = asyncio.Event()

    @classmethod
    async def connect(cls, address: str, port: int, tls: SSLContext | None, host: str) -> "Wire":
        """Connect to an IP address; with `tls`, the certificate must be that of `host`."""
        _, wire = await asyncio.get_running_loop().create_connection(
            cls, address, port, ssl=tls, server_hostname=host if tls else None
        )
        return wire

    async def start_tls(self, tls: SSLContext, host: str) -> None:
        """Go on in TLS. Raises LostError if the server has spoken in clear since its last reply."""
        if self._unread or self._transport is None:
            raise LostError("the server spoke before TLS had begun")
        loop = asyncio.get_running_loop()
        self._transport = await loop.start_tls(self._transport, self, tls, server_hostname=host)

    @property
    def is_quiet(self) -> bool:
        """Whether it is open, and the server has said nothing that was not asked for."""
        return self._lost is None and not self._unread

    @property
    def is_private(self) -> bool:
        """Whether a password may be sent: it is encrypted, or does not leave this machine."""
        if self._transport is None:
            return False
        if self._transport.get_extra_info("sslcontext") is not None:
            return True
        return ip_address(self._transport.get_extra_info("peername")[0].partition("%")[0]).is_loopback

    @property
    def address_literal(self) -> str:
        """The address of this end, as EHLO names a host without a name (RFC 5321, 4.1.3)."""
        own = ip_address(self._transport.get_extra_info("sockname")[0].partition("%")[0]) if self._transport else None
        return f"[IPv6:{own}]" if isinstance(own, IPv6Address) else f"[{own}]"

    def wait_until(self, instant: float) -> None:
        """From this instant of the loop's clock on, what is waited for raises TimeoutError."""
        self._until, self._is_late = instant, False
        # One timer for many messages: `asyncio.timeout` costs more than a reply.
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(instant, self._look)

    def write(self, data: bytes) -> None:
        """Send bytes, now or as soon as the network takes them. Raises LostError if the connection has ended."""
        if self._lost is not None or self._transport is None:
            # What the server said before it closed is why.
            said = self._next_line()
            raise LostError(self._lost if said is None else f"{self._lost}: {said[:300]}")
        self._transport.write(data)

    async def flushed(self) -> None:
        """Wait until the network has taken most of what was written. Raises TimeoutError."""
        if self._flowing is not None:
            await self._flowing
        if self._is_late:
            raise TimeoutError

    async def reply(self) -> Reply:
        """Return the next reply. Raises LostError or TimeoutError."""
        while True:
            line = self._next_line()
            if line is None:
                if self._lost is not None:
                    raise LostError(self._lost)
                if self._is_late:
                    raise TimeoutError
                self._news = asyncio.get_running_loop().create_future()
                await self._news
                continue
            if len(line) > _LONGEST_LINE or not _REPLY.match(line):
                self.abort()
                raise NotSmtpError(f"{line[:80]!a}")
            self._lines.append(line[4:])
            if len(self._lines) > _MOST_LINES:
                self.abort()
                raise NotSmtpError(f"a reply has more than {_MOST_LINES} lines")
            if line[3:4] != "-":
                lines, self._lines = tuple(self._lines), []
                return Reply(int(line[:3]), lines)

    async def close(self) -> None:
        """Close the connection when what was written has gone out, or after a second."""
        if self._transport is not None:
            self._transport.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._ended.wait()
            self._transport.abort()

    def abort(self) -> None:
        """Close the connection now."""
        self._end("the connection was closed")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Keep what the server said."""
        self.has_heard = True
        self._unread += data
        if len(self._unread) > _MOST_UNREAD:
            self._end(f"the server sent more than {_MOST_UNREAD:,} bytes unasked")
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        self._ended.set()
        self._lose(f"the connection was lost: {exc}" if exc else "the connection was closed")

    def _end(self, why: str) -> None:
        self._lose(why)
        if self._transport is not None:
            self._transport.abort()

    def _lose(self, why: str) -> None:
        if self._lost is None:
            self._lost = why
        if self._timer is not None:
            self._timer.cancel()
        self.resume_writing()
        self._wake()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        if loop.time() < self._until:
            self._timer = loop.call_at(self._until, self._look)
            return
        self._is_late = True
        self.resume_writing()
        self._wake()

    def pause_writing(self) -> None:
        """Note that the network is slower than we are."""
        self._flowing = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """Note that the network has caught up."""
        flowing, self._flowing = self._flowing, None
        if flowing is not None and not flowing.done():
            flowing.set_result(None)

    def _wake(self) -> None:
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)

    def _next_line(self) -> str | None:
        end = self._unread.find(b"\n")
        if end < 0 and len(self._unread) > _LONGEST_LINE:
            end = _LONGEST_LINE + 1
        if end < 0:
            return None
        line = self._unread[:end].decode(errors="replace").rstrip("\r")
        del self._unread[: end + 1]
        return line
