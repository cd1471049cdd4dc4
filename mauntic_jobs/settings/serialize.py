"""Settings as a file or a variable holds them."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, SecretStr

from mauntic_jobs.redaction.urls import host_only, mask_url
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.timekeeping.catch_up import CatchUp
from mauntic_jobs.timekeeping.window import format_duration

# Of other addresses every part may be the secret.
_STORES = ("postgres", "redis", "unix")


def shown(settings: Settings, name: str) -> object:
    """Return one setting as it is written in a file or variable, secrets masked."""
    return _written(getattr(settings, name), _hidden)


def revealed(settings: Settings, name: str) -> object:
    """Return one setting as it is written in a file or variable, with its secrets."""
    return _written(getattr(settings, name), SecretStr.get_secret_value)


def _written(value: object, secret: Callable[[SecretStr], str]) -> object:
    forms: dict[type, Callable[[Any], Any]] = {SecretStr: secret, timedelta: format_duration, CatchUp: str}
    match value:
        case dict():
            return {name: _written(each, secret) for name, each in value.items()}
        case list():
            return [_written(each, secret) for each in value]
        case BaseModel():
            given = {type(value).model_fields[name].alias or name: each for name, each in value if each is not None}
            return {name: _written(each, secret) for name, each in given.items()}
        case _:
            return forms[type(value)](value) if type(value) in forms else value


def _hidden(secret: SecretStr) -> str:
    url = secret.get_secret_value()
    return mask_url(url) if url.startswith(_STORES) else host_only(url)
