"""Redis or Valkey for an event loop: commands of many tasks share one connection.

Whatever is asked for in one turn of the loop goes out in one write. Nothing is sent twice: after an error the caller
knows what to repeat.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha1
from typing import Any

from hiredis import pack_command

from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.redaction.urls import mask_url
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.redis.client import ANSWER_SECONDS, checked_url, connection_options, encoded, translated

_FEW = 4

Word = str | bytes | int | float


class RedisLink:
    """A connection that is opened when it is needed, and again when it is lost.

    Its methods raise MaunticJobsError; UnavailableError may mean that the command was carried out all the same.
    """

    def __init__(self, settings: Settings, name: str | None = None) -> None:
        """Take the settings; `name` is what CLIENT LIST shows, where the server allows it."""
        url = checked_url(settings)
        self._name = name
        self._url = url
        self._shown_url = mask_url(url)
        self._options = connection_options(settings)
        self._scripts: dict[bytes, tuple[bytes, bytes]] = {}
        self._outgoing: list[tuple[bytes, asyncio.Future[object], float]] = []
        self._flushing = False
        self._wire: _Wire | None = None
        self._connecting: asyncio.Task[None] | None = None

    async def command(self, *words: Word, patience: float = 0.0) -> Any:
        """Send one command and return its answer. One that waits says for how many seconds, in `patience`."""
        return await self._ask(_pack(words), patience)

    def begin(self, *words: Word) -> asyncio.Future[Any]:
        """Send one command; its answer may be awaited later, or never."""
        future = self._ask(_pack(words))
        future.add_done_callback(_look_at)
        return future

    async def script(self, script: bytes, keys: Sequence[str], arguments: Sequence[Word]) -> object:
        """Run a Lua script."""
        from redis.exceptions import NoScriptError

        digest, load = self._known(script)
        packed = _pack((b"EVALSHA", digest, len(keys), *keys, *arguments))
        try:
            return await self._ask(packed)
        except MaunticJobsError as error:
            if not isinstance(error.__cause__, NoScriptError):
                raise
        # It has not run, so this is no repetition.
        await self._ask(load)
        return await self._ask(packed)

    async def close(self) -> None:
        """Close the connection; whatever is still asked of it fails."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._wire is not None:
            self._wire.lose(ConnectionError("the connection was closed"))

    def _known(self, script: bytes) -> tuple[bytes, bytes]:
        known = self._scripts.get(script)
        if known is None:
            digest = sha1(script, usedforsecurity=False).hexdigest().encode()
            known = self._scripts[script] = (digest, _pack((b"SCRIPT", b"LOAD", script)))
        return known

    def _ask(self, packed: bytes, patience: float = 0.0) -> asyncio.Future[object]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        if self._wire is not None and self._wire.is_hungry and not self._outgoing:
            # Rather than with the others of this turn: the server works while they are put together.
            self._wire.send([(packed, future, patience)])
            return future
        self._outgoing.append((packed, future, patience))
        if not self._flushing and self._connecting is None:
            self._flushing = True
            loop.call_soon(self._flush)
        return future

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
            self._wire = await _connected(self._url, self._options, self._name, self._caused)
        except BaseException as error:
            outgoing, self._outgoing = self._outgoing, []
            for _, future, _ in outgoing:
                if not future.done():
                    future.set_exception(self._caused(error if isinstance(error, Exception) else ConnectionError()))
            if not isinstance(error, Exception):
                raise
        finally:
            self._connecting = None
        if self._outgoing:
            self._flush()

    def _caused(self, error: Exception) -> MaunticJobsError:
        ours = translated(error, self._shown_url)
        ours.__cause__ = error
        return ours


async def _connected(
    url: str, options: dict[str, object], name: str | None, caused: Callable[[Exception], MaunticJobsError]
) -> "_Wire":
    from redis.asyncio import ConnectionPool
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import ResponseError

    # The driver knows URLs, TLS and logins; a connection that it has opened is ours from then on, because its way of
    # reading costs more than all else that is done for an answer.
    pool = ConnectionPool.from_url(url, **options, retry=Retry(NoBackoff(), 0))
    connection: Any = pool.make_connection()  # type: ignore[no-untyped-call]  # the driver gives it none
    try:
        await connection.connect()
        if name:
            await connection.send_command("CLIENT", "SETNAME", name)
            # The name is for people: a user that may not set it works without.
            with suppress(ResponseError):
                await connection.read_response()
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    writer, connection._reader, connection._writer = connection._writer, None, None  # noqa: SLF001 - there is no other way
    wire = _Wire(writer, caused)
    writer.transport.set_protocol(wire)
    return wire


class _Wire(asyncio.Protocol):
    """An open connection; answers come in the order of the commands."""

    def __init__(self, writer: asyncio.StreamWriter, caused: Callable[[Exception], MaunticJobsError]) -> None:
        from hiredis import Reader
        from redis.connection import DefaultParser

        self.lost = False
        # Kept, for when it is collected it closes the transport.
        self._writer = writer
        self._transport = writer.transport
        self._caused = caused
        self._reader = Reader(replyError=DefaultParser.parse_error)
        self._asked: deque[tuple[asyncio.Future[object], float]] = deque()
        self._loop = asyncio.get_running_loop()
        self._watch = self._loop.call_later(1.0, self._look)

    @property
    def is_hungry(self) -> bool:
        """Whether it is open, and few answers are due."""
        return len(self._asked) < _FEW and not self.lost

    def send(self, outgoing: Sequence[tuple[bytes, asyncio.Future[object], float]]) -> None:
        """Send commands."""
        now = self._loop.time()
        self._asked.extend([(future, now + ANSWER_SECONDS + patience) for _, future, patience in outgoing])
        self._transport.write(b"".join([packed for packed, _, _ in outgoing]))

    def data_received(self, data: bytes) -> None:
        """Hand out the answers."""
        reader, asked = self._reader, self._asked
        reader.feed(data)
        try:
            while (answer := reader.gets()) is not False:
                future, _ = asked.popleft()
                if future.done():
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(self._caused(answer))
                else:
                    future.set_result(answer)
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
        for future, _ in asked:
            if not future.done():
                future.set_exception(self._caused(error))

    def _look(self) -> None:
        """Give the connection up if an answer is overdue."""
        if self._asked and self._asked[0][1] < self._loop.time():
            self.lose(TimeoutError(f"no answer for {ANSWER_SECONDS} s"))
        else:
            self._watch = self._loop.call_later(1.0, self._look)


def _pack(words: tuple[Word, ...]) -> bytes:
    """Return a command as Redis reads it."""
    try:
        packed: bytes = pack_command(words)  # type: ignore[arg-type]  # its stub means a tuple of one
    except UnicodeEncodeError:
        packed = pack_command(tuple(encoded(words)))
    return packed


def _look_at(future: asyncio.Future[object]) -> None:
    if not future.cancelled():
        future.exception()
