"""Postgres: connections that survive a transaction-mode pooler, and its errors in our own terms.

Parameters are bound by the client and nothing is prepared on the server, because a pooler hands each transaction to
another server connection. For the same reason settings are only ever made for one transaction.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import psycopg
from psycopg import sql
from psycopg.abc import Buffer
from psycopg.pq import TransactionStatus
from psycopg.types.json import Json

from mauntic_jobs.errors import ConfigurationError
from mauntic_jobs.job import Row
from mauntic_jobs.redaction.urls import mask_url
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.answer import wait_for_news
from mauntic_jobs.stores.postgres.connection import database_url, open_connection
from mauntic_jobs.stores.postgres.errors import translate
from mauntic_jobs.stores.postgres.transaction_settings import in_transaction, settings_query, skip_settings

if TYPE_CHECKING:
    from mauntic_jobs.stores.postgres.replica import ReadReplica

Parameters = Mapping[str, object] | None

# So long a run waits for a read replica that lags, in an open transaction.
_PATIENCE = timedelta(seconds=30)

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

    def __init__(self, connection: psycopg.Connection[Row], replica: "ReadReplica | None" = None) -> None:
        self._connection = connection
        self._replica = replica
        self._limits = Limits()

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

    def execute(self, query: bytes, parameters: Parameters = None) -> int:
        """Execute one statement with named parameters and return how many rows it affected."""
        with self._translated():
            return self._executed(query, parameters).rowcount

    def rows(self, query: bytes, parameters: Parameters = None) -> list[Row]:
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

    def row(self, query: bytes, parameters: Parameters = None) -> Row:
        """Execute a statement that returns exactly one row, and return it."""
        (row,) = self.rows(query, parameters)
        return row

    def gather(self, table: str, query: bytes, parameters: Parameters = None, *, in_parts: bool = False) -> None:
        """Put what a query finds of what others have committed in a temporary table, which ends with the transaction.

        A read replica is asked where there is one. `in_parts`: each query of a UNION ALL is one process's work from end
        to end, as far as Postgres has processes.
        """
        from mauntic_jobs.stores.postgres import gathering

        if self._replica is None:
            gathering.gather(self, table.encode(), query, parameters, in_parts=in_parts)
        else:
            source = self._replica.caught_up(_PATIENCE)
            gathering.fetch(self, source, self._limits, table.encode(), query, parameters, in_parts=in_parts)

    def read(self, query: bytes, parameters: Parameters = None, patience: timedelta = _PATIENCE) -> list[Row]:
        """Return the rows of a statement that only reads what others have committed, by a replica if there is one.

        For a replica that lags it waits `patience`.
        """
        if self._replica is None:
            return self.rows(query, parameters)
        replica = self._replica.caught_up(patience)
        with replica.transaction(self._limits):
            return replica.rows(query, parameters)

    def copy(self, query: bytes, rows: Iterable[Sequence[object]]) -> None:
        """Send rows to a `COPY ... FROM STDIN` statement."""
        with self._translated(), self._connection.cursor() as cursor, cursor.copy(query) as copy:
            for row in rows:
                copy.write_row(row)

    def copy_in(self, query: bytes, chunks: Iterable[Buffer | str]) -> None:
        """Send content in COPY's own format, whole rows or not, to a `COPY ... FROM STDIN` statement."""
        with self._translated(), self._connection.cursor() as cursor, cursor.copy(query) as copy:
            for chunk in chunks:
                copy.write(chunk)

    def copy_out(self, query: bytes, parameters: Parameters = None) -> Iterator[Buffer]:
        """Yield what a `COPY ... TO STDOUT` statement sends."""
        with self._translated(), self._connection.cursor() as cursor, cursor.copy(query, parameters) as copy:
            yield from copy

    @contextmanager
    def transaction(self, limits: Limits = Limits()) -> Iterator[None]:
        """Commit what the body does, or roll it back if it raises."""
        self._limits = limits
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
        try:
            if self._replica is not None:
                self._replica.cancel()
        finally:
            with self._translated():
                self._connection.cancel_safe(timeout=5)

    def close(self) -> None:
        """Close the connection; what was not committed is rolled back by the server."""
        self._connection.close()
        if self._replica is not None:
            self._replica.close()

    def _executed(self, query: bytes, parameters: Parameters) -> psycopg.Cursor[Row]:
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
    url, read_url = database_url(settings), settings.database_read_url
    if read_url is None:
        return Session(open_connection(url, settings))
    from mauntic_jobs.stores.postgres.replica import ReadReplica

    replica = ReadReplica(
        mask_url(read_url.get_secret_value()),
        lambda: Session(open_connection(read_url.get_secret_value(), settings, "DATABASE_READ_URL")),
        lambda: Session(open_connection(url, settings)),
    )
    return Session(open_connection(url, settings), replica)


def json(value: object) -> Json:
    """Wrap a value to be stored as json."""
    return Json(value)
