"""The keys that a provider's configuration has, by its type, and what is wrong with one."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from mauntic_jobs.delivery.sending.providers.flags import flag
from mauntic_jobs.delivery.sending.providers.rate_limit import (
    KEYS as RATE_LIMIT_KEYS,
    is_given,
    positive_number,
    rate_limit_problems,
)
from mauntic_jobs.delivery.sending.smtp.tls import TlsError, tls_of

# Of the key file of a Google service account, those that sign in with it.
_SERVICE_ACCOUNT_KEYS = ("client_email", "private_key")
# What goes into no header, and may hold any characters.
_FREE_TEXTS = ("host",)
_HIGHEST_PORT = 65_535
MAX_CONNECTIONS = "maxConnections"
_CAPITALS = re.compile(r"(?<=[a-z0-9])([A-Z]+)")
_HOST_NAME = re.compile(r"[A-Za-z0-9_\[][A-Za-z0-9._:\]-]{0,254}")
# The keys of values that are objects themselves.
_INNER_KEYS = MappingProxyType(
    {"auth": ("user", "pass", "type"), "tls": ("rejectUnauthorized", "servername", "ca", "cert", "key", "passphrase")},
)


def _nothing(_values: Mapping[str, object]) -> list[str]:
    return []


@dataclass(frozen=True)
class ProviderType:
    """A type of provider: the channel it serves, the keys that it must have and may have.

    Of `one_of` it must have one. `ignored` keys are known, and change nothing. `check` finds what else is wrong with a
    configuration.
    """

    channel: str
    required: Sequence[str]
    optional: Sequence[str] = ()
    one_of: Sequence[str] = ()
    ignored: Sequence[str] = ()
    check: Callable[[Mapping[str, object]], list[str]] = _nothing


def problems(kind: str, values: Mapping[str, object]) -> list[str]:
    """Return what is wrong with a configuration, naming keys and never what they hold; nothing if it is valid."""
    known = TYPES.get(kind)
    if known is None:
        return [f"there is no type {kind!a}, only {', '.join(TYPES)}"]
    found = [f"{name} is missing" for name in known.required if _absent(values, name)]
    if known.one_of and all(_absent(values, name) for name in known.one_of):
        found.append(f"{' or '.join(known.one_of)} is missing")
    given = [name for name in (*known.required, *known.one_of) if not _absent(values, name)]
    found += [f"{name} {wrong}" for name in given if (wrong := _malformed(values[name], free=name in _FREE_TEXTS))]
    return found + known.check(values) + rate_limit_problems(values)


def canonical(kind: str, values: Mapping[str, object]) -> dict[str, object]:
    """Return a configuration with its keys as the type has them: `api_key` is `apiKey`, `require_tls` is `requireTLS`.

    A key that is written as the type has it wins over another spelling of it. Keys that the type does not have stay.
    """
    known = TYPES.get(kind)
    if known is None:
        return dict(values)
    result = _respelled(values, (*known.required, *known.optional, *known.one_of, *known.ignored, *RATE_LIMIT_KEYS))
    for name, inner in _INNER_KEYS.items():
        if name in known.optional and isinstance(result.get(name), Mapping):
            result[name] = _respelled(result[name], inner)
    return result


def _respelled(values: Mapping[str, object], names: Sequence[str]) -> dict[str, Any]:
    spellings = {_in_snake_case(name): name for name in names}
    result: dict[str, object] = {}
    for name, value in values.items():
        own = spellings.get(_in_snake_case(name), name)
        if name == own or own not in values:
            result.setdefault(own, value)
    return result


def _in_snake_case(name: str) -> str:
    return _CAPITALS.sub(r"_\1", name).lower()


def unknown_keys(kind: str, values: Mapping[str, Any]) -> list[str]:
    """Return the keys of a configuration that its type does not have."""
    known = TYPES[kind]
    names = {*known.required, *known.optional, *known.one_of, *known.ignored, *RATE_LIMIT_KEYS}
    found = [name for name in values if name not in names]
    for name, inner in _INNER_KEYS.items():
        if name in known.optional and isinstance(values.get(name), Mapping):
            found += [f"{name}.{each}" for each in values[name] if each not in inner]
    return found


def ignored_keys(kind: str, values: Mapping[str, object]) -> list[str]:
    """Return the keys of a configuration that its type knows, and that change nothing."""
    return [name for name in values if kind in TYPES and name in TYPES[kind].ignored]


def _absent(values: Mapping[str, object], name: str) -> bool:
    value = values.get(name)
    return value is None or (isinstance(value, str) and not value.strip())


def _malformed(value: object, *, free: bool) -> str | None:
    """Return what a provider would refuse a value for: a number will do for a text."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        return "is not a text"
    text = str(value).strip()
    return None if free or (text.isascii() and text.isprintable()) else "has characters that it cannot have"


def _smtp(values: Mapping[str, object]) -> list[str]:
    found = []
    if not _absent(values, "port") and not _is_port(str(values["port"])):
        found.append("port is not a number between 1 and 65535")
    if is_given(values, MAX_CONNECTIONS) and max_connections(values) is None:
        found.append(f"{MAX_CONNECTIONS} is not a number above 0")
    flags = {name: values.get(name) for name in ("secure", "requireTLS", "ignoreTLS")}
    tls = values.get("tls")
    if isinstance(tls, Mapping):
        flags["tls.rejectUnauthorized"] = tls.get("rejectUnauthorized")
    found += [f"{name} is neither true nor false" for name, value in flags.items() if flag(value) is None]
    try:
        tls_of(values)
    except TlsError as error:
        found.append(str(error))
    if not _absent(values, "name") and not _HOST_NAME.fullmatch(str(values["name"])):
        found.append("name is not the name of a host")
    auth = values.get("auth")
    login = auth if isinstance(auth, Mapping) else values
    if str(login.get("type", "login")).lower() not in ("login", "plain", "none"):
        found.append("auth.type is not supported: only a user and a password are")
    user = values.get("username") or login.get("user")
    password = values.get("password") or login.get("pass")
    if bool(user) != bool(password):
        found.append(f"{'password' if user else 'username'} is missing")
    return found


def max_connections(values: Mapping[str, object]) -> int | None:
    """Return how many connections to its server a configuration allows a process, or None for no limit."""
    number = positive_number(values.get(MAX_CONNECTIONS))
    return None if number is None else math.ceil(number)


def _is_port(text: str) -> bool:
    return bool(re.fullmatch(r"\s*\d{1,5}\s*", text)) and 0 < int(text) <= _HIGHEST_PORT


def _twilio(values: Mapping[str, object]) -> list[str]:
    """Return what it lacks to log in: an API key, or else the account's token."""
    api_key = ("apiKeySid", "apiKeySecret")
    needed = api_key if any(not _absent(values, name) for name in api_key) else ("authToken",)
    return [f"{name} is missing" for name in needed if _absent(values, name)]


def _fcm(values: Mapping[str, object]) -> list[str]:
    key = values.get("serviceAccountKey")
    if _absent(values, "serviceAccountKey"):
        return ["serviceAccountKey is missing"]
    if isinstance(key, str):
        try:
            key = json.loads(key)
        except (ValueError, RecursionError):
            return ["serviceAccountKey is not JSON"]
    if not isinstance(key, dict):
        return ["serviceAccountKey is not a JSON object"]
    if key.get("type") != "service_account":
        return ["serviceAccountKey is not the key of a service account"]
    return [f"serviceAccountKey has no {name}" for name in _SERVICE_ACCOUNT_KEYS if _absent(key, name)]


TYPES = MappingProxyType(
    {
        "ses": ProviderType(
            "email",
            ("region", "accessKeyId", "secretAccessKey"),
            ("from", "sessionToken", "configurationSet"),
        ),
        "sendgrid": ProviderType("email", ("apiKey",), ("from",)),
        "postmark": ProviderType("email", ("serverToken",), ("from", "messageStream")),
        "custom_smtp": ProviderType(
            "email",
            ("host",),
            (
                *("port", "secure", "from", "username", "password", "user", "pass", "auth"),
                *("requireTLS", "ignoreTLS", "name", "tls", MAX_CONNECTIONS),
            ),
            # Of nodemailer: connections are always pooled, and time limits are those of the settings.
            ignored=(
                *("pool", "maxMessages", "authMethod", "opportunisticTLS"),
                *("connectionTimeout", "greetingTimeout", "socketTimeout", "dnsTimeout", "logger", "debug"),
                *("transactionLog", "disableFileAccess", "disableUrlAccess"),
            ),
            check=_smtp,
        ),
        "twilio": ProviderType(
            "sms",
            ("accountSid",),
            ("authToken", "apiKeySid", "apiKeySecret"),
            one_of=("fromNumber", "messagingServiceSid"),
            check=_twilio,
        ),
        "fcm": ProviderType("push", ("projectId",), ("serviceAccountKey", "ttlSeconds"), check=_fcm),
    }
)
