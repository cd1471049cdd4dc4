"""An HTTP API that a test answers for: what it takes is journaled before the answer goes out, and it can misbehave."""

import asyncio
import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus
from typing import Any

import h11

from tests.delivery.sink import end_server, in_tasks, running_loop


class Fault(Enum):
    """What becomes of a request instead of an answer."""

    RESET_BEFORE_BODY = "the connection is reset when the headers are there"
    RESET_AFTER_BODY = "the request is taken, and the connection is reset"
    FREEZE = "the request is taken, and nothing follows"
    CUT_ANSWER = "the headers of the answer come, and the connection is reset"


@dataclass(frozen=True)
class Taken:
    """A request that came whole. `headers` are by their names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def fields(self) -> Any:
        """Return the JSON value in the body."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """An answer; a `body` that is not bytes goes out as JSON. `seconds` is how long it takes."""

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


Answering = Callable[[Taken], Reply | Fault]


class FakeApi:
    """A running server. `answer` may be replaced at any time; `early` is what becomes of requests before they are read.

    `taken` are the requests that came whole, in order. `account` is the answer about the account at SES, which is not
    among them; None leaves it to `answer`.
    """

    def __init__(self, answer: Answering) -> None:
        self.answer = answer
        self.early: Callable[[Mapping[str, str]], Fault | None] = lambda _headers: None
        self.taken: list[Taken] = []
        self.account: Reply | None = None
        self.connections = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        self.connections += 1
        connection = h11.Connection(h11.SERVER)
        try:
            with suppress(ConnectionError, h11.RemoteProtocolError):
                while await self._one(connection, reader, writer):
                    connection.start_next_cycle()
        finally:
            writer.transport.abort()

    async def _one(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        request, body = None, b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                data = await reader.read(65_536)
                connection.receive_data(data)
                if not data:
                    return False
            elif isinstance(event, h11.Request):
                request = event
                headers = {name.decode(): value.decode() for name, value in event.headers}
                if self.early(headers) is Fault.RESET_BEFORE_BODY:
                    return False
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                taken = Taken(request.method.decode(), request.target.decode(), headers, body)
                return await self._answer(taken, connection, writer)
            else:
                return False

    async def _answer(self, taken: Taken, connection: h11.Connection, writer: asyncio.StreamWriter) -> bool:
        reply: Reply | Fault
        if self.account is not None and taken.path == "/v2/email/account":
            reply = self.account
        else:
            self.taken.append(taken)
            reply = self.answer(taken)
        if reply is Fault.FREEZE:
            await asyncio.Event().wait()
        if isinstance(reply, Fault):
            if reply is Fault.CUT_ANSWER:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
                await writer.drain()
            return False
        if reply.seconds:
            await asyncio.sleep(reply.seconds)
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        headers = {"content-length": str(len(body)), **reply.headers}
        phrase = HTTPStatus(reply.status).phrase
        response = h11.Response(status_code=reply.status, headers=list(headers.items()), reason=phrase)
        parts = [response, h11.Data(data=body), h11.EndOfMessage()]
        writer.write(b"".join(connection.send(part) or b"" for part in parts))
        await writer.drain()
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE


@contextmanager
def running_api(answer: Answering, *, tls: ssl.SSLContext | None = None) -> Iterator[FakeApi]:
    """Run a server in a thread."""
    api = FakeApi(answer)

    async def start() -> asyncio.Server:
        return await asyncio.start_server(in_tasks(api.serve), "127.0.0.1", 0, ssl=tls)

    async def stop(server: asyncio.Server) -> None:
        await end_server(server)

    with running_loop("api") as run:
        server = run(start())
        api.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield api
        finally:
            run(stop(server))
