"""Stand-ins for the providers, on this machine: they take every message, but for addresses that begin with `gone`."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count

_HOST = "127.0.0.1"
_Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Fakes:
    """Where they listen."""

    smtp_port: int
    api: str

    @property
    def host(self) -> str:
        """The host of all of them."""
        return _HOST


@asynccontextmanager
async def running_fakes() -> AsyncIterator[Fakes]:
    """Run an SMTP server, and a server that answers like Twilio, FCM and Google's tokens, while the body runs."""
    servers = [await asyncio.start_server(_until_gone(each), _HOST, 0) for each in (_smtp, _http)]
    smtp_port, http_port = (each.sockets[0].getsockname()[1] for each in servers)
    try:
        yield Fakes(smtp_port, f"http://{_HOST}:{http_port}")
    finally:
        for server in servers:
            server.close()


def _until_gone(serve: _Serve) -> _Serve:
    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await serve(reader, writer)
        writer.close()

    return served


async def _smtp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 demo\r\n")
    recipients = 0
    while line := await reader.readline():
        word = line[:4].upper()
        if word == b"DATA" and recipients:
            writer.write(b"354 go on\r\n")
            await reader.readuntil(b"\r\n.\r\n")
            writer.write(b"250 taken\r\n")
            recipients = 0
        elif word == b"DATA":
            writer.write(b"503 5.5.1 no recipient\r\n")
        elif word == b"RCPT" and b"<gone" in line:
            writer.write(b"550 5.1.1 no such user\r\n")
        elif word == b"RCPT":
            recipients += 1
            writer.write(b"250 well\r\n")
        elif word == b"QUIT":
            writer.write(b"221 bye\r\n")
            return
        else:
            writer.write(b"250-demo\r\n250 PIPELINING\r\n" if word == b"EHLO" else b"250 well\r\n")
        await writer.drain()


async def _http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    numbers = count(1)
    while head := (await reader.readuntil(b"\r\n\r\n")).decode():
        lines = head.lower().splitlines()
        length = next((int(line.partition(":")[2]) for line in lines if line.startswith("content-length:")), 0)
        await reader.readexactly(length)
        status, fields = _answer(head.split(" ", 2)[1], f"{next(numbers):032x}")
        body = json.dumps(fields).encode()
        writer.write(f"HTTP/1.1 {status} OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()


def _answer(path: str, number: str) -> tuple[int, dict[str, object]]:
    if path.endswith("/Messages.json"):
        return 201, {"sid": f"SM{number}", "status": "queued", "error_code": None}
    if path.endswith("messages:send"):
        return 200, {"name": f"{path.split('/')[2]}/messages/{number}"}
    return 200, {"access_token": f"demo-{number}", "expires_in": 3600, "token_type": "Bearer"}
