"""Postgres: connections that survive a transaction-mode pooler, and its errors in our own terms.

Parameters are bound by the client and nothing is prepared on the server, because a pooler hands each transaction to
another server connection. For the same reason settings are only ever made for one transaction.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from datetime import timedelta
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from psycopg.types.json import Json

from mauntic_jobs.errors import ConfigurationError
from mauntic_jobs.job import Row
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.answer import wait_for_news
from mauntic_jobs.stores.postgres.errors import connect_error, translate, unreadable_url
from mauntic_jobs.stores.postgres.gathering import AS_BEFORE, IN_PARTS
from mauntic_jobs.stores.postgres.transaction_settings import in_transaction, settings_query, skip_settings
from mauntic_jobs.stores.postgres.values import TolerantContext

_LIMITS = b"""
SELECT name, pg_backend_pid() AS backend FROM pg_settings
WHERE name IN ('statement_timeout', 'lock_timeout', 'transaction_timeout') AND reset_val <> '0'
"""


@dataclass(frozen=True)
class Limits:
    """What one transaction may use, and how it shows in `pg_stat_activity`. A `work_mem` of None is the server's."""

    name: str = "mauntic-jobs"
    statement_timeout: timedelta = timedelta(minutes=1)
    idle_timeout: timedelta = timedelta(minutes=1)
    work_mem: str | None = None


class ConnectionWire(NamedTuple):
    """How a connection is made: to which host, encrypted or not, with what `sslmode`.

    `backend` is the server process as it was named when the connection was opened; a pooler names one of its own.
    """

    host: str
    encrypted: bool
    sslmode: str
    backend: int


class Session:
    """One connection to Postgres. Every method raises MaunticJobsError, with the exit code and advice that fit."""

    def __init__(self, connection: psycopg.Connection[Row]) -> None:
        self._connection = connection

    @property
    def broken(self) -> bool:
        """Whether the connection is of no more use."""
        return self._connection.closed

    @property
    def server_version(self) -> int:
        """The server's version as Postgres counts it: 180000 is 18.0."""
        return self._connection.info.server_version

    @property
    def wire(self) -> ConnectionWire:
        """How the connection is made."""
        info = self._connection.info
        mode = info.get_parameters().get("sslmode", "prefer")
        return ConnectionWire(info.host, self._connection.pgconn.ssl_in_use, mode, info.backend_pid)

    def execute(self, query: bytes, parameters: Mapping[str, object] | None = None) -> int:
        """Execute one statement with named parameters and return how many rows it affected."""
        with self._translated():
            return self._executed(query, parameters).rowcount

    def rows(self, query: bytes, parameters: Mapping[str, object] | None = None) -> list[Row]:
        """Execute one statement and return its rows, by column name."""
        with self._translated():
            return self._executed(query, parameters).fetchall()

    def execute_alone(self, query: bytes) -> None:
        """Execute a statement that Postgres allows in no transaction, as the session is set."""
        with self._translated():
            self._connection.execute(query)

    @contextmanager
    def unlimited(self) -> Iterator[None]:
        """Let what is executed alone take as long as it needs, whatever the role or the database is set to.

        Raises ConfigurationError behind a pooler: it would hand the connection's settings on to others.
        """
        limits = self.rows(_LIMITS)
        names = [row["name"] for row in limits]
        if any(row["backend"] != self.wire.backend for row in limits):
            raise ConfigurationError(
                f"The role or the database has a {' and a '.join(names)}, which may end the building of an index. "
                "Set DATABASE_URL to the database itself, without the pooler, for this command."
            )
        with self._translated():
            for name in names:
                self._connection.execute(sql.SQL("SET {} = 0").format(sql.Identifier(name)))
        try:
            yield
        finally:
            with self._translated():
                for name in names if not self.broken else []:
                    self._connection.execute(sql.SQL("RESET {}").format(sql.Identifier(name)))

    def answers_within(self, seconds: float) -> bool:
        """Return whether the connection is given to a server, which a pooler may have none left for."""
        with self._translated():
            wire = self._connection.pgconn
            wire.send_query(b"SELECT 1")
            if not wait_for_news(wire.socket, seconds):
                return False
            while wire.get_result() is not None:
                pass
            return True

    def row(self, query: bytes, parameters: Mapping[str, object] | None = None) -> Row:
        """Execute a statement that returns exactly one row, and return it."""
        (row,) = self.rows(query, parameters)
        return row

    def gather(
        self, table: str, query: bytes, parameters: Mapping[str, object] | None = None, *, in_parts: bool = False
    ) -> None:
        """Put what a query finds in a temporary table, which ends with the transaction.

        `in_parts`: each query of a UNION ALL is one process's work from end to end, as far as Postgres has processes.
        """
        if in_parts:
            self.execute(IN_PARTS)
        # Postgres scans in parallel for this statement, but not for INSERT ... SELECT.
        self.execute(b"CREATE TEMPORARY TABLE " + table.encode() + b" ON COMMIT DROP AS " + query, parameters)
        if in_parts:
            self.execute(AS_BEFORE)

    def copy(self, query: bytes, rows: Iterable[Sequence[object]]) -> None:
        """Send rows to a `COPY ... FROM STDIN` statement."""
        with self._translated(), self._connection.cursor() as cursor, cursor.copy(query) as copy:
            for row in rows:
                copy.write_row(row)

    def copy_text(self, query: bytes, chunks: Iterable[str]) -> None:
        """Send text in COPY's own format, whole lines or not, to a `COPY ... FROM STDIN` statement."""
        with self._translated(), self._connection.cursor() as cursor, cursor.copy(query) as copy:
            for chunk in chunks:
                copy.write(chunk)

    @contextmanager
    def transaction(self, limits: Limits = Limits()) -> Iterator[None]:
        """Commit what the body does, or roll it back if it raises."""
        with self._translated(), self._connection.transaction():
            self._connection.execute(settings_query(*astuple(limits)))
            yield

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what the body did if it raises; for use in a transaction."""
        with self._translated(), self._connection.transaction():
            yield

    @contextmanager
    def rehearsal(self, limits: Limits = Limits()) -> Iterator[None]:
        """Roll back what the body does, whatever happens."""
        with self.transaction(limits):
            yield
            raise psycopg.Rollback

    @contextmanager
    def look(self, limits: Limits = Limits()) -> Iterator[None]:
        """Roll back what the body does, whatever happens; all its statements see the database at one instant."""
        usual, self._connection.isolation_level = (
            self._connection.isolation_level,
            psycopg.IsolationLevel.REPEATABLE_READ,
        )
        try:
            with self.rehearsal(limits):
                yield
        finally:
            if not self.broken:
                self._connection.isolation_level = usual

    def cancel(self) -> None:
        """Ask the server to stop the running statement; safe to call from another thread."""
        with self._translated():
            self._connection.cancel_safe(timeout=5)

    def close(self) -> None:
        """Close the connection; what was not committed is rolled back by the server."""
        self._connection.close()

    def _executed(self, query: bytes, parameters: Mapping[str, object] | None) -> psycopg.Cursor[Row]:
        connection = self._connection
        if connection.info.transaction_status is not TransactionStatus.IDLE:
            return connection.execute(query, parameters)
        try:
            cursor = connection.execute(in_transaction(query), parameters)
        except psycopg.Error:
            # The failed transaction is over; on a lost connection there is none.
            if not connection.closed:
                connection.rollback()
            raise
        skip_settings(cursor)
        return cursor

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            # Servers report by themselves whether they are a standby, as one is for a moment around a failover.
            standby = self._connection.info.parameter_status("in_hot_standby") == "on"
            raise translate(error, standby=standby) from error


def database_url(settings: Settings) -> str:
    """Return where Postgres is, or raise ConfigurationError that says how to tell."""
    url = settings.database_url.get_secret_value() if settings.database_url else ""
    if not url:
        raise ConfigurationError(
            "There is no database to work on. Set DATABASE_URL (or --database-url, or database_url in "
            "mauntic-jobs.toml) to your Postgres, or add --embedded to use the development servers on this machine."
        )
    return url


@contextmanager
def connect(settings: Settings) -> Iterator[Session]:
    """Yield a Session and close it afterwards. Raises UnavailableError or ConfigurationError."""
    session = open_session(settings)
    try:
        yield session
    finally:
        session.close()


def open_session(settings: Settings) -> Session:
    """Open a connection in autocommit mode; the caller closes it. Raises UnavailableError or ConfigurationError."""
    url = database_url(settings)
    try:
        conninfo_to_dict(url)
    except psycopg.Error as error:
        raise unreadable_url(error, url) from None
    try:
        connection = psycopg.connect(
            url,
            autocommit=True,
            prepare_threshold=None,
            cursor_factory=psycopg.ClientCursor[Row],
            row_factory=dict_row,
            context=TolerantContext,
            **connection_options(settings),
        )
    except psycopg.Error as error:
        raise connect_error(error, url) from None
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    return Session(connection)


def connection_options(settings: Settings) -> dict[str, Any]:
    """Return libpq's options for every connection: how it is named, and when a lost one is noticed."""
    return {
        "client_encoding": "UTF8",
        "connect_timeout": max(2, round(settings.connect_timeout.total_seconds())),
        "fallback_application_name": "mauntic-jobs",
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 60_000,
    }


def json(value: object) -> Json:
    """Wrap a value to be stored as json."""
    return Json(value)
