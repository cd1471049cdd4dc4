"""Postgres for an event loop: one connection, opened when it is needed and again when it is lost.

Every statement is a transaction of its own, which a transaction-mode pooler gives to whichever server connection is
free: nothing is set for longer, nothing is prepared.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Any, TypeVar

import psycopg
from psycopg.rows import dict_row
from pydantic_core import from_json

from mauntic_jobs.errors import MaunticJobsError, UnavailableError
from mauntic_jobs.job import Row
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.answer import ask, has_news
from mauntic_jobs.stores.postgres.connection import connection_options, database_url
from mauntic_jobs.stores.postgres.errors import connect_error, translate
from mauntic_jobs.stores.postgres.transaction_settings import in_transaction, skip_settings
from mauntic_jobs.stores.postgres.values import TolerantContext

_T = TypeVar("_T")

# A server that has frozen is given up; the connection's own limits notice one that is gone.
_ANSWER_SECONDS = 30
# After this long without a statement the server is asked whether it is there, and must answer soon: a firewall or an
# address translation forgets connections without a word to either side.
_IDLE_SECONDS, _ALIVE_SECONDS = 15.0, 1.0


class PostgresLink:
    """One connection, for one statement at a time; tasks that ask at once wait for each other.

    Raises MaunticJobsError; UnavailableError may mean that the statement was carried out all the same.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: psycopg.AsyncConnection[Row] | None = None
        self._one = asyncio.Lock()
        self._used = 0.0

    async def rows(self, query: bytes, parameters: Mapping[str, object], *, bare: bool = False) -> list[Row]:
        """Execute one statement with named parameters and return its rows; none if it returns none.

        `bare` leaves out what makes its result independent of the server's settings, which costs as much as a look-up:
        for results without times.
        """

        async def execute(connection: psycopg.AsyncConnection[Row]) -> list[Row]:
            try:
                cursor = await connection.execute(query if bare else in_transaction(query, brief=True), parameters)
            except psycopg.Error:
                if not connection.closed:
                    await connection.rollback()
                raise
            if not bare:
                skip_settings(cursor)
            return await cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else []

        return await self._do(execute)

    async def json(self, query: bytes, parameters: Mapping[str, bytes]) -> Any:
        """Execute one statement whose parameters are texts, and return its one value, which is JSON, as Python's.

        A third of what `rows` costs: for what is asked hundreds of times a second.
        """
        numbered, names = _numbered(query)
        return from_json(await self._do(lambda each: ask(each.pgconn, numbered, [parameters[name] for name in names])))

    async def _do(self, work: Callable[[psycopg.AsyncConnection[Row]], Awaitable[_T]]) -> _T:
        async with self._one:
            connection = await self._connected()
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    answer = await work(connection)
            except psycopg.Error as error:
                standby = connection.info.parameter_status("in_hot_standby") == "on"
                raise await self._given_up(translate(error, standby=standby), connection.closed) from error
            except TimeoutError as error:
                slow = UnavailableError(f"Postgres did not answer for {_ANSWER_SECONDS} s.")
                raise await self._given_up(slow, True) from error
            except asyncio.CancelledError:
                await self.close()
                raise
            self._used = time.monotonic()
            return answer

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _connected(self) -> psycopg.AsyncConnection[Row]:
        if self._connection is not None:
            if await self._is_alive(self._connection):
                return self._connection
            await self.close()
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
        self._used = time.monotonic()
        return self._connection

    async def _is_alive(self, connection: psycopg.AsyncConnection[Row]) -> bool:
        """Return whether a kept connection can take a statement, before one is spent on it."""
        # A server speaks to an idle connection when it ends it, or changes a setting: a new one is right for both.
        if connection.closed or has_news(connection.pgconn.socket):
            return False
        if time.monotonic() - self._used < _IDLE_SECONDS:
            return True
        try:
            async with asyncio.timeout(_ALIVE_SECONDS):
                await ask(connection.pgconn, b"SELECT 1", [])
        except (psycopg.Error, TimeoutError):
            return False
        except asyncio.CancelledError:
            await self.close()
            raise
        return True

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
