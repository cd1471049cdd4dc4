"""Receivers of alerts and pings, well and ill."""

import asyncio
import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, NamedTuple

from aiosmtpd.controller import Controller

REDIRECT_TO = "/elsewhere"


class Request(NamedTuple):
    """What was received."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Receiver:
    """An HTTP server on this machine. `mode`: `ok`, a status, `hang`, `drip` or `reset`; it may change at any time.

    `said` is the body of its answers.
    """

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.requests: SimpleQueue[Request] = SimpleQueue()
        self.released = Event()
        self.said = ""
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/in"

    def received(self) -> list[Request]:
        """Return what has come since the last time."""
        return [self.requests.get() for _ in range(self.requests.qsize())]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.requests.put(Request(handler.path, headers, body))
        match self.mode:
            case "hang":
                self.released.wait(60)
            case "drip":
                while not self.released.wait(0.05):
                    handler.wfile.write(b"H")
            case "reset":
                linger = struct.pack("ii", 1, 0)
                handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                handler.connection.close()
            case status:
                handler.send_response(200 if status == "ok" else int(status))
                handler.send_header("Location", REDIRECT_TO)
                handler.send_header("Content-Length", str(len(self.said.encode())))
                handler.end_headers()
                handler.wfile.write(self.said.encode())


@contextmanager
def receiver(mode: str = "ok") -> Iterator[Receiver]:
    made = Receiver(mode)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.answer(self)

        def do_GET(self) -> None:
            made.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Those who were waited for may have gone."""

    with Server(("127.0.0.1", 0), Handler) as server:
        made.port = server.server_address[1]
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            made.released.set()
            server.shutdown()
            thread.join()


class Mailbox:
    """What an SMTP server got; with `status` it refuses the content."""

    def __init__(self, status: str = "250 ok") -> None:
        self.status = status
        self.mails: list[Any] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        await asyncio.sleep(0)
        self.mails.append(envelope)
        return self.status


@contextmanager
def mail_server(mailbox: Mailbox) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield port
    finally:
        controller.stop()
