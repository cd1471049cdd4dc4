"""Providers that take so many messages a second, in a process of their own, and count what they take and refuse."""

import asyncio
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection

from bench._fake_apis import FakeApi
from mauntic_jobs.embedded.die_with_parent import end_with_parent

SECONDS_A_MESSAGE = 0.05
# By the ways of refusing over SMTP: the answer to which command, and the answer.
_REFUSALS = {
    "454": (b"DATA", b"454 Throttling failure: Maximum sending rate exceeded.\r\n"),
    "421": (b"MAIL", b"421 4.7.0 Too many messages per second, try again later\r\n"),
    "452": (b"MAIL", b"452 4.7.0 Sending rate exceeded\r\n"),
}
# The APIs, by the type of provider.
APIS = ("postmark", "sendgrid", "ses")
KINDS = (*_REFUSALS, *APIS)


@dataclass
class Counts:
    """When messages were taken and refused so far."""

    taken: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)


@contextmanager
def limited_provider(kind: str, rate: int) -> Iterator[tuple[int, Callable[[], Counts]]]:
    """Run a server of one of `KINDS`; yield its port, and a function that asks it for its counts."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(kind, rate, there), daemon=True)
    process.start()

    def ask() -> Counts:
        here.send("?")
        counts: Counts = here.recv()
        return counts

    try:
        yield here.recv(), ask
    finally:
        process.kill()
        process.join()


class _Bucket:
    """Takes so many messages a second, a second's worth at once."""

    def __init__(self, rate: int) -> None:
        self.counts = Counts()
        self._rate, self._tokens, self._at = rate, float(rate), time.monotonic()

    def take(self) -> bool:
        """Return whether a message is taken now."""
        now = time.monotonic()
        self._tokens, self._at = min(self._rate, self._tokens + (now - self._at) * self._rate), now
        if self._tokens < 1:
            self.counts.refused.append(now)
            return False
        self._tokens -= 1
        self.counts.taken.append(now)
        return True


def _serve(kind: str, rate: int, pipe: Connection) -> None:
    end_with_parent()
    bucket = _Bucket(rate)

    def answer() -> None:
        pipe.recv()
        pipe.send(bucket.counts)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        if kind in APIS:
            server = await loop.create_server(lambda: FakeApi(SECONDS_A_MESSAGE, bucket.take), "127.0.0.1", 0)
        else:
            server = await asyncio.start_server(partial(_smtp, bucket, *_REFUSALS[kind]), "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        loop.add_reader(pipe.fileno(), answer)
        await asyncio.Event().wait()

    asyncio.run(run())


async def _smtp(
    bucket: _Bucket, refusing: bytes, refusal: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(b"220 bench\r\n")
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        while line := await reader.readline():
            command, answer = line[:4].upper(), b"250 ok\r\n"
            if command == b"DATA":
                writer.write(b"354 go on\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                await asyncio.sleep(SECONDS_A_MESSAGE)
            elif command == b"QUIT":
                break
            if command == refusing and not bucket.take():
                answer = refusal
            writer.write(answer)
            if answer.startswith(b"421"):
                break
    writer.close()
