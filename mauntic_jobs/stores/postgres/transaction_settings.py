"""Settings of a transaction: everything that its statements rely on, whatever server, database and role are set to."""

from datetime import timedelta

import psycopg
from psycopg import sql

# `row_security` off makes Postgres refuse a statement of which a policy would hide rows. Postgres 17 came with
# `transaction_timeout`.
_SETTINGS = """
SELECT set_config('application_name', {name}, true),
       set_config('TimeZone', 'UTC', true),
       set_config('DateStyle', 'ISO, YMD', true),
       set_config('IntervalStyle', 'postgres', true),
       set_config('row_security', 'off', true),
       set_config('statement_timeout', {statement_timeout}, true),
       set_config('lock_timeout', '0', true),
       set_config('idle_in_transaction_session_timeout', {idle_timeout}, true),
       CASE WHEN current_setting('transaction_timeout', true) IS NOT NULL
           THEN set_config('transaction_timeout', '0', true) END,
       set_config('client_connection_check_interval', '10s', true),
       set_config('work_mem', coalesce({work_mem}, current_setting('work_mem')), true)
"""


def settings_query(
    name: str, statement_timeout: timedelta, idle_timeout: timedelta, work_mem: str | None = None
) -> bytes:
    """Return the statement that a transaction begins with. A `work_mem` of None is the server's."""
    query = sql.SQL(_SETTINGS).format(
        name=name,
        statement_timeout=_milliseconds(statement_timeout),
        idle_timeout=_milliseconds(idle_timeout),
        work_mem=work_mem,
    )
    return query.as_bytes()


def _milliseconds(duration: timedelta) -> str:
    return str(max(1, round(duration.total_seconds() * 1000)))


# For a statement outside a transaction of the caller's: a report over large tables may take a while.
_BEFORE = (
    b"BEGIN ISOLATION LEVEL READ COMMITTED;"
    + settings_query("mauntic-jobs", timedelta(minutes=10), timedelta(minutes=1))
    + b";"
)


# For statements that are made for single messages, whose time the caller limits: only what their results depend on.
_BEFORE_BRIEF = b"""BEGIN ISOLATION LEVEL READ COMMITTED;
SELECT set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, YMD', true),
       set_config('IntervalStyle', 'postgres', true), set_config('row_security', 'off', true);
"""


def in_transaction(query: bytes, *, brief: bool = False) -> bytes:
    """Return the statement in a transaction of its own with these settings, for one exchange with the server.

    `brief` leaves out the timeouts.
    """
    return (_BEFORE_BRIEF if brief else _BEFORE) + query + b"\n;COMMIT"


def skip_settings(cursor: "psycopg.Cursor[object] | psycopg.AsyncCursor[object]") -> None:
    """Go to the answer to the statement itself."""
    # Those to BEGIN and to the settings come before it.
    cursor.nextset()
    cursor.nextset()
