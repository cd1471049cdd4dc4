"""An SMTP server that says line by line what it was given, whether that is SMTP or not."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.delivery.sink import cancel_others, close, end_server, in_tasks, running_loop

EHLO = b"250-here\r\n250 8BITMIME\r\n"
GREETING = b"220 here\r\n"
OK = b"250 2.0.0 ok\r\n"
GO_AHEAD = b"354 go ahead\r\n"


@dataclass
class Scripted:
    """A running server; `heard` are the lines that it was sent, of all connections."""

    port: int = 0
    heard: list[bytes] = field(default_factory=list)


@contextmanager
def running_script(*replies: bytes, further: Sequence[bytes] | None = None) -> Iterator[Scripted]:
    """Run a server whose greeting is the first of the replies, and which answers each line with the next one.

    It closes the connection after its last reply. A content is one line. Later connections get `further`, or the same.
    """
    scripted, scripts = Scripted(), [replies]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = scripts.pop() if scripts else (replies if further is None else further)
        try:
            for number, reply in enumerate(script):
                if number:
                    line = await reader.readuntil(b"\r\n.\r\n" if script[number - 1].startswith(b"354") else b"\r\n")
                    scripted.heard.append(line)
                writer.write(reply)
                await writer.drain()
            writer.write_eof()
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            await close(writer)

    with running_loop("scripted") as run:

        async def start() -> asyncio.Server:
            return await asyncio.start_server(in_tasks(serve), "127.0.0.1", 0)

        server = run(start())
        scripted.port = server.sockets[0].getsockname()[1]
        try:
            yield scripted
        finally:
            run(end_server(server))
            run(cancel_others())
