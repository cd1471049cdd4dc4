"""A TCP proxy that is slow, stops, loses replies, resets and refuses, as a test tells it to."""

import asyncio
import socket
import struct
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tests.delivery.sink import cancel, cancel_others, close, in_tasks, running_loop

_CHUNK_BYTES = 1 << 20  # so large that a delay is of the whole that was sent, and not of each of its parts
_TICK_SECONDS = 0.01
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: closing sends RST


class Proxy:
    """Stands between clients and one server. What a method says is so when it returns."""

    def __init__(self, host: str, port: int, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._upstream = (host, port)
        self._run = run
        self._links: dict[asyncio.Task[Any], list[asyncio.StreamWriter]] = {}
        self._delay = 0.0
        self._refusing = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._dropping = False
        self._forgotten: set[asyncio.Task[Any]] = set()
        self._accepted = 0
        self._server: asyncio.Server = run(self._start())
        self.host = "127.0.0.1"
        self.port: int = self._server.sockets[0].getsockname()[1]

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._links)

    @property
    def accepted(self) -> int:
        """How many connections there ever were, without those refused."""
        return self._accepted

    def delay(self, seconds: float) -> None:
        """Pass bytes on that much later, in both directions."""
        self._delay = seconds

    def reset_all(self) -> None:
        """Reset every open connection, at both ends."""
        self._run(self._reset(list(self._links)))

    def freeze(self) -> None:
        """Hold back all bytes, and the ends of connections, until `thaw`."""
        self._do(self._flowing.clear)

    def thaw(self) -> None:
        self._do(self._flowing.set)

    def forget_all(self) -> None:
        """Pass nothing on over the connections that are open, and tell neither end, as a firewall does."""
        self._do(lambda: self._forgotten.update(self._links))

    def drop_replies(self) -> None:
        """Lose what the server sends; that it closed is only held back, until `pass_replies`."""
        self._dropping = True
        self._do(lambda: None)

    def pass_replies(self) -> None:
        self._dropping = False

    def refuse(self) -> None:
        """Close new connections at once."""
        self._refusing = True
        self._do(lambda: None)

    def accept(self) -> None:
        self._refusing = False

    def stop(self) -> None:
        self._run(self._stop())

    def _do(self, action: Callable[[], None]) -> None:
        """Let the loop's thread do something, at a time when it does nothing else."""

        async def done() -> None:
            action()

        self._run(done())

    async def _start(self) -> asyncio.Server:
        return await asyncio.start_server(in_tasks(self._serve), "127.0.0.1", 0, limit=_CHUNK_BYTES)

    async def _stop(self) -> None:
        self._server.close()
        await cancel_others()

    async def _reset(self, tasks: list[asyncio.Task[Any]]) -> None:
        for task in tasks:
            for writer in self._links.get(task, ()):
                _reset(writer)
        await cancel(tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            await close(writer)
            return
        task = asyncio.current_task()
        assert task is not None
        self._links[task] = [writer]
        self._accepted += 1
        try:
            await self._link(reader, writer, self._links[task])
        finally:
            try:
                # All of them first: a wait for one that is cancelled leaves the others closed.
                for each in self._links[task]:
                    each.close()
                for each in self._links[task]:
                    await close(each)
            finally:
                del self._links[task]

    async def _link(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, writers: list[asyncio.StreamWriter]
    ) -> None:
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(*self._upstream, limit=_CHUNK_BYTES)
            writers.append(upstream_writer)
            if upstream_writer.get_extra_info("sockname") == upstream_writer.get_extra_info("peername"):
                raise ConnectionRefusedError  # nobody listens at a port that then was given to this end of it
            link = asyncio.current_task()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_requests(reader, upstream_writer, link))
                group.create_task(self._pass_replies(upstream_reader, writer, reader, link))
        except* OSError:
            # One end was reset, or the server does not listen: so is the other end.
            for each in writers:
                _reset(each)

    async def _pass_requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: asyncio.Task[Any] | None
    ) -> None:
        while chunk := await self._read(reader, link):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()

    async def _pass_replies(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        client: asyncio.StreamReader,
        link: asyncio.Task[Any] | None,
    ) -> None:
        try:
            while chunk := await self._read(reader, link):
                if not self._dropping:
                    writer.write(chunk)
                    await writer.drain()
        except ConnectionError:
            await self._end_of_dropping(client)
            raise
        await self._end_of_dropping(client)
        writer.write_eof()

    async def _end_of_dropping(self, client: asyncio.StreamReader) -> None:
        while self._dropping and not client.at_eof():  # noqa: ASYNC110 - neither has an event
            await asyncio.sleep(_TICK_SECONDS)

    async def _read(self, reader: asyncio.StreamReader, link: asyncio.Task[Any] | None) -> bytes:
        chunk = await reader.read(_CHUNK_BYTES)
        if self._delay:
            await asyncio.sleep(self._delay)
        await self._flowing.wait()
        if link in self._forgotten:
            await asyncio.Event().wait()
        return chunk


@contextmanager
def running_proxy(host: str, port: int) -> Iterator[Proxy]:
    """Run a proxy in front of a server, in a thread."""
    with running_loop("proxy") as run:
        proxy = Proxy(host, port, run)
        try:
            yield proxy
        finally:
            proxy.stop()


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # closed before
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
