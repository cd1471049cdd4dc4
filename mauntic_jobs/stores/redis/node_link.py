"""A connection to one server: commands of many tasks share it.

Whatever is asked for in one turn of the loop goes out in one write. Nothing is sent twice: after an error the caller
knows what to repeat.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from mauntic_jobs.stores.redis.client import ANSWER_SECONDS
from mauntic_jobs.stores.redis.slots import NodeAddress

_FEW = 4


class RedisRequest:
    """A command on its way: as Redis reads it, its answer to come, and for how many seconds it may wait there."""

    __slots__ = ("future", "packed", "patience", "redirections")

    def __init__(self, packed: bytes, patience: float = 0.0) -> None:
        self.packed = packed
        self.patience = patience
        self.redirections = 0
        self.future: asyncio.Future[object] = asyncio.get_running_loop().create_future()


class LinkOwner(Protocol):
    """What asks through a connection, and decides what its failures mean."""

    async def greet(self, connection: Any, server: "NodeLink") -> None:
        """Look at a server through a connection of the driver that was opened just now."""

    def refuse(self, request: RedisRequest, error: Exception, server: "NodeLink") -> None:
        """Settle a request that the server answered with an error, or whose connection was lost."""


class NodeLink:
    """A connection that is opened when it is needed, and again when it is lost; to another `node` than the URL's."""

    def __init__(
        self, url: str, options: dict[str, object], name: str | None, owner: LinkOwner, node: NodeAddress | None = None
    ) -> None:
        self._url = url
        self._options = options
        self._name = name
        self._owner = owner
        self._node = node
        self._outgoing: list[RedisRequest] = []
        self._flushing = False
        self._wire: _Wire | None = None
        self._connecting: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the connection is open."""
        return self._wire is not None and not self._wire.lost

    @property
    def address(self) -> NodeAddress:
        """Where the server is."""
        from redis.connection import parse_url

        if self._node is not None:
            return self._node
        place: Any = parse_url(self._url)  # type: ignore[no-untyped-call]  # the driver gives it none
        return NodeAddress(str(place.get("host", "localhost")), int(place.get("port", 6379)))

    def ask(self, request: RedisRequest) -> None:
        """Send a request, behind those before it."""
        if self._wire is not None and self._wire.is_hungry and not self._outgoing:
            # Rather than with the others of this turn: the server works while they are put together.
            self._wire.send([request])
            return
        self._outgoing.append(request)
        if not self._flushing and self._connecting is None:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    async def close(self) -> None:
        """Close the connection; whatever is still asked of it fails."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._wire is not None:
            self._wire.lose(ConnectionError("the connection was closed"))

    def _flush(self) -> None:
        self._flushing = False
        if self._wire is None or self._wire.lost:
            # A task of its own: no caller owns it, and it goes on when one is cancelled.
            self._connecting = asyncio.create_task(self._connect())
            return
        outgoing, self._outgoing = self._outgoing, []
        self._wire.send(outgoing)

    async def _connect(self) -> None:
        try:
            self._wire = await self._connected()
        except BaseException as error:
            outgoing, self._outgoing = self._outgoing, []
            for request in outgoing:
                self._refuse(request, error if isinstance(error, Exception) else ConnectionError())
            if not isinstance(error, Exception):
                raise
        finally:
            self._connecting = None
        if self._outgoing:
            self._flush()

    async def _connected(self) -> "_Wire":
        from redis.asyncio import ConnectionPool
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import ResponseError

        # The driver knows URLs, TLS and logins; a connection that it has opened is ours from then on, because its way
        # of reading costs more than all else that is done for an answer.
        pool = ConnectionPool.from_url(self._url, **self._options, retry=Retry(NoBackoff(), 0))
        if self._node is not None:
            pool.connection_kwargs.update(self._node._asdict())
        connection: Any = pool.make_connection()  # type: ignore[no-untyped-call]  # the driver gives it none
        try:
            await connection.connect()
            if self._name:
                await connection.send_command("CLIENT", "SETNAME", self._name)
                # The name is for people: a user that may not set it works without.
                with suppress(ResponseError):
                    await connection.read_response()
            await self._owner.greet(connection, self)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        writer, connection._reader, connection._writer = connection._writer, None, None  # noqa: SLF001 - there is no other way
        wire = _Wire(writer, self._refuse)
        writer.transport.set_protocol(wire)
        return wire

    def _refuse(self, request: RedisRequest, error: Exception) -> None:
        if not request.future.done():
            self._owner.refuse(request, error, self)


class _Wire(asyncio.Protocol):
    """An open connection; answers come in the order of the commands."""

    def __init__(self, writer: asyncio.StreamWriter, refuse: Callable[[RedisRequest, Exception], None]) -> None:
        from hiredis import Reader
        from redis.connection import DefaultParser

        self.lost = False
        # Kept, for when it is collected it closes the transport.
        self._writer = writer
        self._transport = writer.transport
        self._refuse = refuse
        self._reader = Reader(replyError=DefaultParser.parse_error)
        self._asked: deque[tuple[RedisRequest, float]] = deque()
        self._loop = asyncio.get_running_loop()
        self._watch = self._loop.call_later(1.0, self._look)

    @property
    def is_hungry(self) -> bool:
        """Whether it is open, and few answers are due."""
        return len(self._asked) < _FEW and not self.lost

    def send(self, outgoing: Sequence[RedisRequest]) -> None:
        """Send commands."""
        now = self._loop.time()
        self._asked.extend([(request, now + ANSWER_SECONDS + request.patience) for request in outgoing])
        self._transport.write(b"".join([request.packed for request in outgoing]))

    def data_received(self, data: bytes) -> None:
        """Hand out the answers."""
        reader, asked = self._reader, self._asked
        reader.feed(data)
        try:
            while (answer := reader.gets()) is not False:
                request, _ = asked.popleft()
                if isinstance(answer, Exception):
                    self._refuse(request, answer)
                elif not request.future.done():
                    request.future.set_result(answer)
        except Exception as error:  # noqa: BLE001 - what is no answer is the end of the connection
            self.lose(ConnectionError(str(error)))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what was asked."""
        self.lose(exc if isinstance(exc, OSError) else ConnectionError("Connection closed by server."))

    def lose(self, error: Exception) -> None:
        """Give the connection up."""
        if self.lost:
            return
        self.lost = True
        self._watch.cancel()
        self._transport.abort()
        asked, self._asked = self._asked, deque()
        for request, _ in asked:
            self._refuse(request, error)

    def _look(self) -> None:
        """Give the connection up if an answer is overdue."""
        if self._asked and self._asked[0][1] < self._loop.time():
            self.lose(TimeoutError(f"no answer for {ANSWER_SECONDS} s"))
        else:
            self._watch = self._loop.call_later(1.0, self._look)
