"""The organizations' providers: which there are, what is wrong with how they are configured, and new configurations."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn
from uuid import UUID

from mauntic_jobs.delivery.sending.providers.config import ProviderConfig, ProviderError, encrypt, is_plain, read_config
from mauntic_jobs.delivery.sending.providers.keys import (
    TYPES,
    canonical,
    ignored_keys,
    max_connections,
    problems,
    unknown_keys,
)
from mauntic_jobs.errors import ConfigurationError, UsageError
from mauntic_jobs.job import Row
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session

_sql = statements("providers")


@dataclass(frozen=True)
class ConfiguredProvider:
    """A row of `delivery.provider_configs`.

    `config` is None where it cannot be read; `problem` says what is wrong, naming keys and never what they hold.
    `ignored` keys are known and change nothing; `unknown` ones are not, and what they are for is not done.
    """

    id: UUID
    organization: UUID
    channel: str
    type: str
    priority: int
    active: bool
    encrypted: bool
    config: ProviderConfig | None
    problem: str | None
    ignored: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def sealed(self) -> bool:
        """Whether it is encrypted and does not open."""
        return self.encrypted and self.config is None


def list_providers(session: Session, settings: Settings, organization: UUID | None = None) -> list[ConfiguredProvider]:
    """Return the providers of all organizations or of one, in the order in which they are tried."""
    key = settings.encryption_key.get_secret_value() if settings.encryption_key else None
    return [_configured(row, key) for row in session.rows(_sql["list"], {"organization": organization})]


def connection_limits(providers: Iterable[ConfiguredProvider]) -> dict[tuple[str, str], dict[str, int]]:
    """Return how many connections each active provider may have, by channel and organization, where that is limited."""
    limits: dict[tuple[str, str], dict[str, int]] = {}
    for each in providers:
        if each.active and each.config is not None and (most := max_connections(each.config.values)) is not None:
            limits.setdefault((each.channel, str(each.organization)), {})[str(each.id)] = most
    return limits


def encrypted(kind: str, text: str, settings: Settings) -> tuple[str, list[str]]:
    """Return a configuration, given as JSON, in the platform's encrypted format, and keys in it that mean nothing.

    Raises UsageError if it is no configuration of this type, ConfigurationError if there is no key.
    """
    if kind not in TYPES:
        raise UsageError(f"There is no provider of the type {kind}. The types are: {', '.join(TYPES)}.")
    if settings.encryption_key is None:
        raise ConfigurationError("There is no key to encrypt with. Set ENCRYPTION_KEY to the platform's.")
    values = canonical(kind, _parsed(text))
    wrong = problems(kind, values)
    if wrong:
        raise UsageError(f"This is no configuration of the type {kind}: {', '.join(wrong)}.")
    return encrypt(values, settings.encryption_key.get_secret_value()), unknown_keys(kind, values)


def _configured(row: Row, key: str | None) -> ConfiguredProvider:
    kind, config = row["provider_type"], None
    try:
        config = read_config(row["id"], kind, row["config"], key)
        problem = ", ".join(_problems(row["channel"], config)) or None
    except ProviderError as error:
        problem = str(error).removeprefix(f"{kind} {row['id']}: ")
    return ConfiguredProvider(
        id=row["id"],
        organization=row["organization_id"],
        channel=row["channel"],
        type=kind if kind.isprintable() else ascii(kind),
        priority=row["priority"] or 0,
        active=bool(row["is_active"]),
        encrypted=not is_plain(row["config"]),
        config=config,
        problem=problem,
        ignored=tuple(ignored_keys(kind, config.values)) if config else (),
        unknown=tuple(unknown_keys(kind, config.values)) if config and kind in TYPES else (),
    )


def _problems(channel: str, config: ProviderConfig) -> list[str]:
    known = TYPES.get(config.type)
    if known is not None and known.channel != channel:
        return [f"{config.type} is for {known.channel}, not for {channel}"]
    return problems(config.type, config.values)


def _parsed(text: str) -> dict[str, object]:
    def refuse(constant: str) -> NoReturn:
        raise UsageError(f"The configuration is no JSON: it has a {constant}.")

    try:
        values = json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:  # whose text does not repeat the secrets
        raise UsageError(
            f"The configuration is no JSON: {error.msg}, in line {error.lineno}, column {error.colno}."
        ) from None
    if not isinstance(values, dict):
        raise UsageError('The configuration is no JSON object, such as {"apiKey": "..."}.')
    return values
