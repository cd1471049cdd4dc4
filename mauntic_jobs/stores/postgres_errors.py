"""What an error of Postgres means for a run: whether it can pass, its exit code, and what to do about it."""

import re

import psycopg

from mauntic_jobs.errors import (
    ConfigurationError,
    ConflictError,
    ContentionError,
    JobFailedError,
    MaunticJobsError,
    StatementTimeoutError,
    UnavailableError,
)

# libpq gives a refused connection no SQLSTATE, only the server's text.
_REFUSED_LOGIN = re.compile(
    r"password authentication failed|no password supplied|authentication failed|no pg_hba.conf entry|SASL"
    r'|role ".*" does not exist|database ".*" does not exist|no such database|not permitted to log in'
    r"|invalid (dsn|connection option|URI)|missing \"=\"|invalid port number|invalid integer value",
    re.IGNORECASE,
)

_CONTENTION = {"40001", "40P01", "55P03"}
_GONE = {"57P01", "57P02", "57P03", "57P05", "25P03", "25P04"}
_READ_ONLY = "25006"
_ADVICE = {
    "42501": "Grant the role what docs/database.md lists, or use another role.",
    "42703": "The platform's table has other columns than mauntic-jobs knows; see docs/database.md.",
    "42P10": "A unique key is missing: run `mauntic-jobs db upgrade`.",
    "3D000": "Check DATABASE_URL.",
    _READ_ONLY: "The role or the server is read-only: use the primary, and a role that may write.",
}


def connect_error(error: psycopg.Error, shown_url: str) -> MaunticJobsError:
    """Return why a connection could not be opened. `shown_url` is the address without its password."""
    text = " ".join(str(error).split())
    if isinstance(error, psycopg.ProgrammingError) or _REFUSED_LOGIN.search(text):
        return ConfigurationError(f"Postgres refused the connection to {shown_url}: {text}. Check DATABASE_URL.")
    return UnavailableError(
        f"Cannot reach Postgres at {shown_url}: {text}. Check that it is running and that DATABASE_URL is right."
    )


def is_read_only(error: psycopg.Error) -> bool:
    """Whether a write was refused because the transaction is read-only."""
    return error.sqlstate == _READ_ONLY


def translate(error: psycopg.Error, *, in_recovery: bool) -> MaunticJobsError:  # noqa: PLR0911 - a table in code
    """Return the error that a statement's failure amounts to. `in_recovery`: the server is a standby."""
    state = error.sqlstate or ""
    # Only the primary message: the detail quotes values of rows.
    text = error.diag.message_primary or " ".join(str(error).split())
    if state in _CONTENTION:
        return ContentionError(f"Postgres gave up on the transaction: {text}.")
    if state == "23505":
        return ConflictError(_sentence(text))
    if state == "57014":
        return StatementTimeoutError(
            f"Postgres stopped a statement: {text}. If it needs longer, raise MAUNTIC_STATEMENT_TIMEOUT."
        )
    if state == _READ_ONLY and in_recovery:
        return UnavailableError(f"This server is a standby: {text}. A failover may be under way.")
    if state in _GONE or state[:2] in ("08", "53") or (not state and _is_connection_failure(error)):
        return UnavailableError(f"The connection to Postgres was lost: {text}.")
    if state in ("42P01", "3F000"):
        return ConfigurationError(f"{_sentence(text)} {_missing_table_advice(text)}")
    if state in _ADVICE or state[:2] == "28":
        return ConfigurationError(f"{_sentence(text)} {_ADVICE.get(state, 'Check DATABASE_URL.')}")
    return JobFailedError(f"Postgres refused a statement: {text} (SQLSTATE {state or 'none'}).")


def _is_connection_failure(error: psycopg.Error) -> bool:
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


def _missing_table_advice(text: str) -> str:
    if "mauntic_jobs" in text:
        return "Run `mauntic-jobs db upgrade` first."
    return "It is a table of the platform: check that DATABASE_URL names the platform's database."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
