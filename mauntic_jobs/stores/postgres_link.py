"""Postgres for an event loop: one connection, opened when it is needed and again when it is lost.

Every statement is a transaction of its own, which a transaction-mode pooler gives to whichever server connection is
free: nothing is set, nothing is prepared.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import psycopg
from psycopg import pq
from psycopg.rows import dict_row
from pydantic_core import from_json

from mauntic_jobs.config import Settings
from mauntic_jobs.errors import MaunticJobsError, UnavailableError
from mauntic_jobs.job import Row
from mauntic_jobs.stores.postgres import connection_options, database_url
from mauntic_jobs.stores.postgres_errors import connect_error, translate
from mauntic_jobs.stores.postgres_values import TolerantContext

_T = TypeVar("_T")

# A server that has frozen is given up; the connection's own limits notice one that is gone.
_ANSWER_SECONDS = 30


class PostgresLink:
    """One connection, for one statement at a time; tasks that ask at once wait for each other.

    Raises MaunticJobsError; UnavailableError may mean that the statement was carried out all the same.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: psycopg.AsyncConnection[Row] | None = None
        self._one = asyncio.Lock()

    async def rows(self, query: bytes, parameters: Mapping[str, Any]) -> list[Row]:
        """Execute one statement with named parameters and return its rows; none if it returns none."""

        async def execute(connection: psycopg.AsyncConnection[Row]) -> list[Row]:
            cursor = await connection.execute(query, parameters)
            return await cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else []

        return await self._do(execute)

    async def json(self, query: bytes, parameters: Mapping[str, bytes]) -> Any:
        """Execute one statement whose parameters are texts, and return its one value, which is JSON, as Python's.

        A third of what `rows` costs: for what is asked hundreds of times a second.
        """
        numbered, names = _numbered(query)
        return from_json(
            await self._do(lambda each: _asked(each.pgconn, numbered, [parameters[name] for name in names]))
        )

    async def _do(self, work: Callable[[psycopg.AsyncConnection[Row]], Awaitable[_T]]) -> _T:
        async with self._one:
            connection = await self._connected()
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    return await work(connection)
            except psycopg.Error as error:
                standby = connection.info.parameter_status("in_hot_standby") == "on"
                raise await self._given_up(translate(error, standby=standby), connection.closed) from error
            except TimeoutError as error:
                slow = UnavailableError(f"Postgres did not answer for {_ANSWER_SECONDS} s.")
                raise await self._given_up(slow, True) from error
            except asyncio.CancelledError:
                await self.close()
                raise

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _connected(self) -> psycopg.AsyncConnection[Row]:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        url = database_url(self._settings)
        try:
            self._connection = await psycopg.AsyncConnection.connect(
                url,
                autocommit=True,
                prepare_threshold=None,
                cursor_factory=psycopg.AsyncClientCursor[Row],
                row_factory=dict_row,
                context=TolerantContext,
                **connection_options(self._settings),
            )
        except psycopg.Error as error:
            raise connect_error(error, url) from None
        return self._connection

    async def _given_up(self, error: MaunticJobsError, closed: bool) -> MaunticJobsError:
        if closed or error.transient:
            await self.close()
        return error


@cache
def _numbered(query: bytes) -> tuple[bytes, list[str]]:
    """Return a query with `$1` for its first named parameter, and the names in their order."""
    names: list[str] = []

    def number(match: re.Match[bytes]) -> bytes:
        names.append(match[1].decode())
        return b"$%d" % len(names)

    return re.sub(rb"%\((\w+)\)s", number, query), names


async def _asked(connection: pq.abc.PGconn, query: bytes, values: Sequence[bytes]) -> bytes:
    """Return the first value of a query's answer."""
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[pq.abc.PGresult] = loop.create_future()
    results: list[pq.abc.PGresult] = []

    def read() -> None:
        try:
            connection.consume_input()
            while not answered.done() and not connection.is_busy():
                result = connection.get_result()
                if result is None:
                    answered.set_result(results[0])
                else:
                    results.append(result)
        except psycopg.Error as error:
            answered.set_exception(error)

    def write() -> None:
        try:
            if not connection.flush():
                loop.remove_writer(connection.socket)
        except psycopg.Error as error:
            answered.set_exception(error)

    connection.send_query_params(query, values)
    socket = connection.socket
    if connection.flush():
        loop.add_writer(socket, write)
    loop.add_reader(socket, read)
    try:
        result = await answered
    finally:
        loop.remove_reader(socket)
        loop.remove_writer(socket)
    if result.status != pq.ExecStatus.TUPLES_OK:
        raise psycopg.errors.error_from_result(result)
    return result.get_value(0, 0) or b"null"
