"""Errors of Postgres as errors of a run: transient or not, exit code and advice."""

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
from mauntic_jobs.redaction.urls import MASK, mask_url

# libpq gives a refused connection no SQLSTATE, only the server's text.
_REFUSED_LOGIN = re.compile(
    r"password authentication failed|no password supplied|authentication failed|no pg_hba.conf entry|SASL"
    r'|role ".*" does not exist|database ".*" does not exist|no such database|not permitted to log in'
    r"|connection is insecure|endpoint ID is not specified|unsupported startup parameter",
    re.IGNORECASE,
)
_UNREADABLE = re.compile(
    r"invalid (\w+ value|dsn|connection option|URI|port|integer value)|missing \"=\"", re.IGNORECASE
)

_CONTENTION = {"40001", "40P01", "55P03"}
_GONE = {"57P01", "57P02", "57P03", "57P05", "25P03", "25P04"}
_READ_ONLY = "25006"
_ROW_SECURITY = "affected by row-level security"
# Its messages quote the value that could not be read.
_DATA_EXCEPTION = "22"
_ADVICE = {
    "42501": "Grant the role what docs/database.md lists, or use another role.",
    "42703": "The platform's table has other columns than mauntic-jobs knows; see docs/database.md.",
    "42P10": "A unique key is missing: run `mauntic-jobs db upgrade`.",
    "3D000": "Check DATABASE_URL.",
    _READ_ONLY: "The role or the server is read-only: use the primary, and a role that may write.",
}


def unreadable_url(error: psycopg.Error, url: str, variable: str = "DATABASE_URL") -> ConfigurationError:
    """Return the error for an address that cannot be read. It is not repeated: it may hold a password anywhere."""
    parameter = re.search(r'invalid URI query parameter: "(\w+)"', str(error))
    if parameter and "@" not in url.partition("?")[2]:
        return ConfigurationError(f"Postgres knows no parameter {parameter[1]}. Check {variable}, and take it out.")
    return ConfigurationError(
        f"{variable} is no address that Postgres understands. Check {variable}: write it as "
        "postgresql://USER:PASSWORD@HOST:PORT/DATABASE, and percent-encode marks in the password, such as %40 for @."
    )


def connect_error(error: psycopg.Error, url: str, variable: str = "DATABASE_URL") -> MaunticJobsError:
    """Return why a connection could not be opened."""
    text = " ".join(str(error).split()).partition(" Is the server running")[0].rstrip(".")
    if isinstance(error, psycopg.ProgrammingError) or _UNREADABLE.search(text):
        return unreadable_url(error, url, variable)
    refused = _REFUSED_LOGIN.search(text)
    # libpq quotes what it took for a host or a port, which may be the end of a password that holds an @ or a slash.
    for piece in re.split(r"[:/@?#]", url.partition("://")[2].rpartition("@")[0])[1:]:
        text = text.replace(piece, MASK) if piece else text
    if refused:
        return ConfigurationError(f"Postgres refused the connection to {mask_url(url)}: {text}. Check {variable}.")
    return UnavailableError(
        f"Cannot reach Postgres at {mask_url(url)}: {text}. Check that it is running and that {variable} is right."
    )


def translate(error: psycopg.Error, *, standby: bool) -> MaunticJobsError:  # noqa: PLR0911 - a table in code
    """Return the error that a statement's failure amounts to. `standby`: the server is one, at least for now."""
    state = error.sqlstate or ""
    # Only the primary message: the detail quotes values of rows.
    text = error.diag.message_primary or " ".join(str(error).split())
    if state[:2] == _DATA_EXCEPTION:
        text = re.sub(r'".*"', '"..."', text, flags=re.DOTALL)
    if state in _CONTENTION:
        return ContentionError(f"Postgres gave up on the transaction: {text}.")
    if state == "23505":
        return ConflictError(_sentence(text))
    if state == "57014":
        return StatementTimeoutError(
            f"Postgres stopped a statement: {text}. If it needs longer, raise MAUNTIC_STATEMENT_TIMEOUT."
        )
    if state == _READ_ONLY and standby:
        return UnavailableError(f"This server is a standby: {text}. A failover may be under way.")
    if state in _GONE or state[:2] in ("08", "53") or (not state and _is_connection_failure(error)):
        return UnavailableError(f"The connection to Postgres was lost: {text}.")
    if state in ("42P01", "3F000") or _is_own_function(state, text):
        return ConfigurationError(f"{_sentence(text)} {_missing_advice(text)}")
    if _ROW_SECURITY in text:
        return ConfigurationError(
            f"Postgres would hide rows from this role, and figures would be too low: {text}. "
            "Use a role with BYPASSRLS, or switch row-level security off for the table."
        )
    if state in _ADVICE or state[:2] == "28":
        return ConfigurationError(f"{_sentence(text)} {_ADVICE.get(state, 'Check DATABASE_URL.')}")
    return JobFailedError(f"Postgres refused a statement: {text} (SQLSTATE {state or 'none'}).")


def _is_connection_failure(error: psycopg.Error) -> bool:
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


def _is_own_function(state: str, text: str) -> bool:
    """Return whether a function of the schema mauntic_jobs is missing."""
    return state == "42883" and "mauntic_jobs." in text


def _missing_advice(text: str) -> str:
    if text.startswith("function"):
        return (
            "The schema is another version's: run `mauntic-jobs db upgrade`, or start this process anew with the "
            "version that has migrated the database."
        )
    if "mauntic_jobs" in text:
        return "Run `mauntic-jobs db upgrade` first."
    return "It is a table of the platform: check that DATABASE_URL names the platform's database."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
