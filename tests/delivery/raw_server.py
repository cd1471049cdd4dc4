"""A server that answers each request with bytes as they are, or does with the connection what a test wants."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tests.delivery.sink import end_server, in_tasks, running_loop

# What becomes of a connection.
Script = Callable[["Link"], Coroutine[Any, Any, None]]


class Link:
    """One connection to the server."""

    def __init__(self, server: "RawServer", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer

    async def head(self) -> str:
        """Read a request as far as the empty line, and return it in small letters."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        self.server.heads.append(head)
        return head

    async def request(self) -> str:
        """Read a whole request, and return it without its body, in small letters."""
        head = await self.head()
        await self.reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0))
        self.server.whole += 1
        return head

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


class RawServer:
    """A running server. `heads` are those of the requests, `whole` of these came whole, `open` connections are open."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.heads: list[str] = []
        self.connections = self.whole = self.open = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Go through the script with one connection."""
        self.connections += 1
        self.open += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self.script(Link(self, reader, writer))
        finally:
            self.open -= 1
            writer.transport.close()


@contextmanager
def raw_server(script: Script, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    """Run a server in a thread."""
    raw = RawServer(script)

    async def start() -> asyncio.Server:
        return await asyncio.start_server(in_tasks(raw.serve), host, 0, ssl=tls)

    with running_loop("raw server") as run:
        server = run(start())
        raw.port = server.sockets[0].getsockname()[1]
        try:
            yield raw
        finally:
            run(end_server(server))


def saying(answer: bytes, *, then_close: bool = False) -> Script:
    """Return a script that answers every request with the same bytes."""

    async def script(link: Link) -> None:
        while True:
            await link.request()
            await link.say(answer)
            if then_close:
                return

    return script


def ok(body: bytes = b"", *headers: bytes) -> bytes:
    """Return an answer that is in order."""
    lines = (b"HTTP/1.1 200 OK", *headers, b"Content-Length: %d" % len(body))
    return b"\r\n".join((*lines, b"", body))
