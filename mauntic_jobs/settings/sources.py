"""Sources of the settings: flags, environment, file and defaults, and which of them wins."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mauntic_jobs.errors import ConfigurationError
from mauntic_jobs.settings.config_files import CONFIG_FILES
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.settings.store_urls import StoreUrl, postgres_url, redis_url

# The settings that a variable holds as JSON.
_EXAMPLES = {
    "jobs": '{"aggregate-hourly": {"max_attempts": 2}}',
    "channels": '{"email": {"concurrency": 20}}',
    "alerts": '[{"type": "slack", "url": "https://..."}]',
    "dead_letters": '[{"depth": 500}]',
    "message_limits": '{"payload": 65536}',
    "provider_urls": '{"resend": "https://..."}',
    "smtp_ports": "[25, 587]",
}
_STORE_URLS = {"database_url": postgres_url, "database_read_url": postgres_url, "redis_url": redis_url}


def load(
    flags: Mapping[str, Any], config_file: Path | None = None, log: Callable[[str], None] = lambda _: None
) -> tuple[Settings, dict[str, str]]:
    """Return the effective settings, and for each field where its value comes from.

    `flags` are options given on the command line, by field name. Flags win over the environment, the environment over
    the file, the file over the default; `log` gets a sentence for what is ignored of a store's address. Raises
    ConfigurationError that names every setting that cannot be used.
    """
    file = _config_file(config_file)
    sources: list[tuple[str, Mapping[str, Any]]] = [("flag", flags), ("environment", _environment())]
    if file is not None:
        sources.append((str(file), _by_field(_file(file))))
    values: dict[str, Any] = {}
    origins = dict.fromkeys(Settings.model_fields, "default")
    for origin, found in reversed(sources):
        values.update(found)
        origins.update(dict.fromkeys(found, origin))
    for name, read in _STORE_URLS.items():
        if isinstance(values.get(name), str):
            values[name] = _store_url(name, read, values[name], log)
    try:
        return Settings(**values), origins
    except ValidationError as error:
        raise ConfigurationError(_explain(error, origins)) from None


def _store_url(name: str, read: Callable[[str], StoreUrl], text: str, log: Callable[[str], None]) -> str:
    try:
        url, ignored = read(text)
    except ValueError as error:
        raise ConfigurationError(f"{variable(name)} cannot be used: {error}.") from None
    if ignored:
        log(f"{variable(name)}: ignored, because it is another driver's: {', '.join(ignored)}")
    return url


def variable(name: str) -> str:
    """Return the environment variable that sets the field `name`."""
    alias = Settings.model_fields[name].validation_alias
    return alias if isinstance(alias, str) else f"MAUNTIC_{name.upper()}"


def _config_file(named: Path | None) -> Path | None:
    if named is not None:
        if not named.is_file():
            raise ConfigurationError(f"The configuration file {named} does not exist.")
        return named
    return next((file for file in CONFIG_FILES if file.is_file()), None)


def _environment() -> dict[str, Any]:
    # Their names are those of the settings in upper or lower case; an empty one counts as none.
    given = {name.lower(): text for name, text in os.environ.items() if text}
    texts = {name: given.get(variable(name).lower()) for name in Settings.model_fields}
    values = {name: _value(name, text) for name, text in texts.items() if text is not None}
    return {name: value for name, value in values.items() if value is not None}


def _value(name: str, text: str) -> Any:
    try:
        return json.loads(text) if name in _EXAMPLES else text
    except (ValueError, RecursionError):
        # The error would repeat what the variable holds.
        raise ConfigurationError(f"{variable(name)} must be JSON, like {_EXAMPLES[name]}.") from None


def _file(file: Path) -> dict[str, Any]:
    import tomllib

    try:
        with file.open("rb") as opened:
            return tomllib.load(opened)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"Cannot read the configuration file {file}: {error}.") from None


def _by_field(found: Mapping[str, Any]) -> dict[str, Any]:
    names = {variable(name): name for name in Settings.model_fields}
    return {names.get(key, key): value for key, value in found.items()}


def _explain(error: ValidationError, origins: Mapping[str, str]) -> str:
    lines = ["These settings cannot be used:"]
    for problem in error.errors():
        key = str(problem["loc"][0])
        name = next((field for field in Settings.model_fields if key in (field, variable(field))), key)
        place = ".".join([name, *(str(part) for part in problem["loc"][1:])])
        reason = (
            "no such setting" if problem["type"] == "extra_forbidden" else problem["msg"].removeprefix("Value error, ")
        )
        lines.append(f"  {place} (from {origins.get(name, 'file')}): {reason}")
    return "\n".join(lines)
