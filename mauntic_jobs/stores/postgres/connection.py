"""Connections to Postgres: where it is, and how one is opened.

Parameters are bound by the client and nothing is prepared on the server, because a pooler hands each transaction to
another server connection.
"""

from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from mauntic_jobs.errors import ConfigurationError
from mauntic_jobs.job import Row
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.errors import connect_error, unreadable_url
from mauntic_jobs.stores.postgres.values import TolerantContext


def database_url(settings: Settings) -> str:
    """Return where Postgres is, or raise ConfigurationError that says how to tell."""
    url = settings.database_url.get_secret_value() if settings.database_url else ""
    if not url:
        raise ConfigurationError(
            "There is no database to work on. Set DATABASE_URL (or --database-url, or database_url in "
            "mauntic-jobs.toml) to your Postgres, or add --embedded to use the development servers on this machine."
        )
    return url


def open_connection(url: str, settings: Settings, variable: str = "DATABASE_URL") -> psycopg.Connection[Row]:
    """Open a connection in autocommit mode to the address that a variable holds.

    Raises UnavailableError or ConfigurationError.
    """
    try:
        conninfo_to_dict(url)
    except psycopg.Error as error:
        raise unreadable_url(error, url, variable) from None
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
        raise connect_error(error, url, variable) from None
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    return connection


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
