"""Answer of Postgres to one statement, awaited on an event loop."""

import asyncio
import select
from collections.abc import Sequence

import psycopg
from psycopg import pq

# How often the socket is looked at beside the event loop.
_LOOK_SECONDS = 0.25


async def ask(connection: pq.abc.PGconn, query: bytes, values: Sequence[bytes]) -> bytes:
    """Return the first value of a query's answer; `$1` is the first of its values. Raises psycopg.Error."""
    connection.send_query_params(query, values)
    answer = _Answer(connection)
    try:
        result = await answer.future
    finally:
        answer.stop()
    if result.status != pq.ExecStatus.TUPLES_OK:
        raise psycopg.errors.error_from_result(result)
    return result.get_value(0, 0) or b"null"


def has_news(socket: int) -> bool:
    """Return whether a socket has something to read, or has ended."""
    return wait_for_news(socket, 0)


def wait_for_news(socket: int, seconds: float) -> bool:
    """Wait until a socket has something to read, or has ended; return whether it did so in time."""
    poll = select.poll()
    poll.register(socket, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


class _Answer:
    """The answer to a statement that was sent on `connection`; `future` gets it, or psycopg's error."""

    def __init__(self, connection: pq.abc.PGconn) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[pq.abc.PGresult] = self._loop.create_future()
        self._connection = connection
        self._results: list[pq.abc.PGresult] = []
        self._socket: int | None = connection.socket
        self._timer = self._loop.call_later(_LOOK_SECONDS, self._look)
        self._loop.add_reader(self._socket, self._read)
        if connection.flush():
            self._loop.add_writer(self._socket, self._write)

    def stop(self) -> None:
        """Watch the socket no longer."""
        # Once: libpq may have closed it, and another connection of the process may get its number.
        socket, self._socket = self._socket, None
        if socket is not None:
            self._timer.cancel()
            self._loop.remove_reader(socket)
            self._loop.remove_writer(socket)

    def _read(self) -> None:
        connection = self._connection
        try:
            connection.consume_input()
            while not connection.is_busy():
                result = connection.get_result()
                if result is None:
                    self._end(self._results[0])
                    return
                self._results.append(result)
        except psycopg.Error as error:
            self._end(error)

    def _write(self) -> None:
        try:
            if not self._connection.flush() and self._socket is not None:
                self._loop.remove_writer(self._socket)
        except psycopg.Error as error:
            self._end(error)

    def _look(self) -> None:
        # uvloop never again calls the reader of a socket that has reported an error: without a look, no answer comes.
        self._timer = self._loop.call_later(_LOOK_SECONDS, self._look)
        if self._socket is not None and has_news(self._socket):
            self._read()

    def _end(self, answer: "pq.abc.PGresult | psycopg.Error") -> None:
        self.stop()
        if self.future.done():
            return
        if isinstance(answer, psycopg.Error):
            self.future.set_exception(answer)
        else:
            self.future.set_result(answer)
