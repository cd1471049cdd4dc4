"""The configuration of a provider, as the platform keeps it: plain, or encrypted with AES-256-GCM."""

import base64
import binascii
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from urllib.parse import quote, quote_plus
from uuid import UUID

from mauntic_jobs.delivery.sending.providers.keys import canonical
from mauntic_jobs.errors import JobFailedError
from mauntic_jobs.stores.postgres.values import Unreadable

_IV_BYTES = 12
# What is shorter is found in any text, and is no secret.
_SHORTEST_SECRET = 4
_DEEPEST = 10
# What is shorter is looked for as a word only.
_LONG = 8
_SECRET = re.compile(r"key|token|secret|pass", re.IGNORECASE)


class ProviderError(JobFailedError):
    """A provider cannot be used as it is configured; the text has no secrets."""


@dataclass(frozen=True)
class ProviderConfig:
    """A row of `delivery.provider_configs`, decrypted. `values` hold secrets, and are not shown."""

    id: UUID
    type: str
    values: Mapping[str, object] = field(repr=False)

    def text(self, name: str) -> str | None:
        """Return a value as text, None where it is absent or empty. Raises ProviderError if it is no text."""
        value = self.values.get(name)
        if value is None or value == "":
            return None
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise ProviderError(f"{self.name}: {name} is not a text")
        return str(value)

    def required(self, name: str) -> str:
        """Return a value that it cannot do without, fit for a header. Raises ProviderError, without the value."""
        value = (self.text(name) or "").strip()
        if not value:
            raise ProviderError(f"{self.name}: it has no {name}")
        if not value.isascii() or not value.isprintable():
            raise ProviderError(f"{self.name}: {name} has characters that it cannot have")
        return value

    @property
    def secrets(self) -> list[str]:
        """What must never be repeated of it."""
        return list(_secrets(self.values))

    @cached_property
    def name(self) -> str:
        """What it is called in errors and in the ledger."""
        # Written several times for each message.
        return f"{self.type} {self.id}"


def read_config(provider: UUID, kind: str, stored: object, encryption_key: str | None) -> ProviderConfig:
    """Return the configuration from the column `config`. Raises ProviderError that says what is wrong with it."""
    name = f"{kind} {provider}"
    if isinstance(stored, str):
        stored = _plain(name, stored) if is_plain(stored) else _decrypted(name, stored, encryption_key)
    if isinstance(stored, Unreadable):
        raise ProviderError(f"{name}: its configuration {stored.reason}")
    if not isinstance(stored, dict):
        raise ProviderError(f"{name}: its configuration is not a JSON object")
    if _is_deep(stored):
        raise ProviderError(f"{name}: its configuration is nested too deep")
    return ProviderConfig(provider, kind, canonical(kind, stored))


def is_plain(stored: object) -> bool:
    """Whether what the column `config` holds is not encrypted: an object, or a text that is one."""
    return not isinstance(stored, str) or stored.lstrip().startswith("{")


def encrypt(values: Mapping[str, object], encryption_key: str) -> str:
    """Return a configuration as the platform keeps it encrypted: `base64(iv):base64(ciphertext+tag)`."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    iv = os.urandom(_IV_BYTES)
    plain = json.dumps(values, allow_nan=False).encode()
    sealed = AESGCM(bytes.fromhex(encryption_key)).encrypt(iv, plain, None)
    return ":".join(base64.b64encode(part).decode() for part in (iv, sealed))


def hide(text: str, secrets: Iterable[str]) -> str:
    """Return what a provider says without the secrets that it may repeat, however it writes them."""
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = _written(secret).sub("***", text)
    return text


@lru_cache(maxsize=1024)
def _written(secret: str) -> re.Pattern[str]:
    """Return what finds a secret as it is, in a URL, in JSON or in base64, in capitals or small letters."""
    encoded = base64.b64encode(secret.encode()).decode().rstrip("=")
    ways = {secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1], encoded}
    pattern = "|".join(re.escape(each) for each in sorted(ways, key=len, reverse=True))
    return re.compile(pattern if len(secret) >= _LONG else rf"(?<!\w)(?:{pattern})(?!\w)", re.IGNORECASE)


def _secrets(values: Mapping[str, object]) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _secrets(value)
        elif isinstance(value, str | int) and not isinstance(value, bool) and _SECRET.search(name):
            yield str(value)


def _is_deep(values: Mapping[str, object]) -> bool:
    """Whether values stand in more objects and lists than any configuration has."""
    level: list[object] = [values]
    for _ in range(_DEEPEST):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return bool(level)


def _plain(name: str, stored: str) -> object:
    try:
        return json.loads(stored)
    except (ValueError, RecursionError):
        raise ProviderError(f"{name}: its configuration is not JSON") from None


def _decrypted(name: str, stored: str, encryption_key: str | None) -> object:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if not encryption_key:
        raise ProviderError(f"{name}: its configuration is encrypted: set ENCRYPTION_KEY")
    try:
        iv, sealed = (base64.b64decode(part, validate=True) for part in stored.split(":"))
    except (ValueError, binascii.Error):
        iv, sealed = b"", b""
    if len(iv) != _IV_BYTES:
        raise ProviderError(f"{name}: its configuration is not base64(iv):base64(ciphertext+tag)")
    try:
        return json.loads(AESGCM(bytes.fromhex(encryption_key)).decrypt(iv, sealed, None))
    except InvalidTag:
        raise ProviderError(f"{name}: its configuration does not open with ENCRYPTION_KEY") from None
    except (ValueError, RecursionError):
        raise ProviderError(f"{name}: its decrypted configuration is not JSON") from None
