"""Addresses of Postgres and Redis as other tools write them, made into what our drivers read."""

import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote

_QUOTES = ("'", '"', "`")
# Parameters of other drivers that change nothing here: pools, caches, timeouts that each transaction sets itself, and
# schemas, for every table is named with its own.
_IGNORED_BY_POSTGRES = {
    *("pgbouncer", "schema", "search_path", "currentschema", "connection_limit", "statement_cache_size", "supa"),
    *("socket_timeout", "max_idle_connection_lifetime", "max_connection_lifetime", "single_use_connections"),
    *("max", "min", "max_overflow", "prepared_statements", "prepared_statement_cache_size", "prepare_threshold"),
    *("preparethreshold", "prefer_query_mode", "preferquerymode", "uselibpqcompat", "workaround", "async_fallback"),
    *("connectiontimeoutmillis", "idletimeoutmillis", "statement_timeout", "query_timeout", "lock_timeout"),
    *("idle_in_transaction_session_timeout", "encoding", "charset", "serverversion", "binary_parameters"),
    *("default_query_exec_mode", "command_timeout", "reconnect"),
}
_IGNORED_BY_REDIS = {
    *("family", "maxretriesperrequest", "enablereadycheck", "enableofflinequeue", "connecttimeout", "commandtimeout"),
    *("keepalive", "lazyconnect", "connectionname", "nodelay", "autoresubscribe", "autoresendunfulfilledcommands"),
    *("enableautopipelining", "showfriendlyerrorstack", "stringnumbers", "protocol", "socket_timeout"),
    *("socket_connect_timeout", "socket_keepalive", "retry_on_timeout", "max_connections", "health_check_interval"),
    *("timeout", "decode_responses", "encoding", "pool_timeout", "readonly"),
}
_KEPT_BY_REDIS = {"db", "username", "password", "client_name"}
_TLS_OF_REDIS = {"ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"}
_YES, _NO = {"true", "1", "yes", "on", ""}, {"false", "0", "no", "off", "null", "undefined"}
_SSL_MODES = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}


class StoreUrl(NamedTuple):
    """An address as our drivers read it, and the names of what was left out."""

    url: str
    ignored: list[str]


def postgres_url(text: str) -> StoreUrl:
    """Read DATABASE_URL or DATABASE_READ_URL. Raises ValueError that names what cannot be used."""
    url, ignored = re.sub(r"^psql\s+", "", text.strip()), []
    url = re.sub(r"^jdbc:(?=postgres)", "", _unquoted(url))
    if url.startswith(("prisma://", "prisma+postgres://")):
        raise ValueError("it is the address of Prisma's own service: write that of the Postgres behind it")
    driver = re.match(r"(postgres(?:ql)?)\+([a-z0-9]+)://", url)
    if driver:
        ignored.append(f"+{driver[2]}")
        url = url.replace(driver[0], f"{driver[1]}://", 1)
    return _with_parameters(url, ignored, _postgres_parameter)


def redis_url(text: str) -> StoreUrl:
    """Read REDIS_URL. Raises ValueError that names what cannot be used."""
    url = re.sub(r"^valkey(s?)://", r"redis\1://", _unquoted(text.strip()))
    names = {name.lower(): value.lower() for name, value in _pairs(url.partition("?")[2])}
    if any(names.get(name) in _YES for name in ("tls", "ssl") if name in names):
        url = re.sub(r"^redis://", "rediss://", url)
    if names.get("rejectunauthorized") in _NO and url.startswith("redis://"):
        raise ValueError("rejectUnauthorized is about TLS: begin the address with rediss://")
    tls = _TLS_OF_REDIS & names.keys()
    if tls and url.startswith("redis://"):
        raise ValueError(f"{', '.join(sorted(tls))} is about TLS: begin the address with rediss://")
    return _with_parameters(url, [], _redis_parameter)


def _unquoted(url: str) -> str:
    while len(url) > 1 and url[0] == url[-1] and url[0] in _QUOTES:
        url = url[1:-1].strip()
    return url


def _with_parameters(url: str, ignored: list[str], read: Callable[[str, str], tuple[str, str] | None]) -> StoreUrl:
    address, mark, query = url.partition("?")
    if not mark or "@" in query:
        # Without parameters, or with a question mark in the password.
        return StoreUrl(url, ignored)
    kept = []
    for name, value in _pairs(query):
        pair = read(name, value)
        if pair is None:
            ignored.append(name)
        else:
            kept.append("=".join(pair))
    return StoreUrl("?".join([address, "&".join(kept)]) if kept else address, ignored)


def _pairs(query: str) -> list[tuple[str, str]]:
    return [(pair.partition("=")[0], pair.partition("=")[2]) for pair in query.split("&") if pair]


def _postgres_parameter(name: str, value: str) -> tuple[str, str] | None:
    plain, given = name.lower(), unquote(value).lower()
    if plain == "ssl" and given in _YES | _NO | _SSL_MODES:
        mode = "require" if given in _YES else "disable" if given in _NO else given
        return "sslmode", mode
    if plain == "sslmode" and given == "no-verify":
        return "sslmode", "require"
    if plain == "sslaccept":
        if given == "strict":
            raise ValueError("sslaccept=strict is another driver's: write sslmode=verify-full")
        return None
    if plain == "sslidentity":
        raise ValueError("sslidentity is another driver's: write sslcert and sslkey")
    if plain in _IGNORED_BY_POSTGRES or plain.startswith("pool_"):
        return None
    return name, value


def _redis_parameter(name: str, value: str) -> tuple[str, str] | None:
    plain, given = name.lower(), unquote(value).lower()
    if plain in ("tls", "ssl"):
        if given not in _YES | _NO:
            raise ValueError(f"{name} cannot be given in the address: begin it with rediss:// for TLS")
        return None
    if plain == "rejectunauthorized":
        return ("ssl_cert_reqs", "none") if given in _NO else None
    if plain == "ssl_cert_reqs":
        return name, given.removeprefix("cert_")
    if plain == "keyprefix":
        raise ValueError("keyPrefix cannot be used with BullMQ's queues: set queue_prefix instead")
    if plain in _IGNORED_BY_REDIS:
        return None
    if plain not in _KEPT_BY_REDIS | _TLS_OF_REDIS:
        raise ValueError(f"{name} is no parameter that is known: take it out")
    return name, value
