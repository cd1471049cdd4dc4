"""The fields that `--where` can compare, and how: texts without regard to case, counts, and lengths of time."""

import operator
from collections.abc import Callable
from datetime import datetime, timedelta
from types import MappingProxyType

from mauntic_jobs.errors import UsageError
from mauntic_jobs.ops.dead_letters.dead_letter import DeadLetter
from mauntic_jobs.timekeeping.window import parse_duration

Test = Callable[[DeadLetter, datetime], bool]

FIELDS = MappingProxyType(
    {
        "queue": "text",
        "error": "text",
        "name": "text",
        "org": "text",
        "channel": "text",
        "fingerprint": "text",
        "attempts": "count",
        "age": "duration",
    }
)
# What only a job's payload tells.
OF_PAYLOAD = frozenset({"org", "channel"})

_ORDERS = MappingProxyType({"<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge})
OPERATORS = MappingProxyType(
    {
        "text": ("=", "!=", "~", "!~"),
        "count": ("=", "!=", *_ORDERS),
        "duration": tuple(_ORDERS),
    }
)


def compare(field: str, sign: str, value: str) -> Test:
    """Return the test that a comparison makes. Raises UsageError for a value that the field cannot have."""
    match FIELDS[field]:
        case "text":
            return _texts(field, sign, value.casefold())
        case "count":
            return _counts(sign, value)
        case _:
            return _ages(sign, parse_duration(value))


def _texts(field: str, sign: str, value: str) -> Test:
    def text(letter: DeadLetter) -> str:
        found = letter.organization if field == "org" else getattr(letter, field)
        return (found or "").casefold()

    match sign:
        case "=":
            return lambda letter, _: text(letter) == value
        case "!=":
            return lambda letter, _: text(letter) != value
        case "~":
            return lambda letter, _: value in text(letter)
        case _:
            return lambda letter, _: value not in text(letter)


def _counts(sign: str, value: str) -> Test:
    if not value.isascii() or not value.isdigit():
        raise UsageError(f"{value!r} is no number.")
    number = int(value)
    order = {"=": operator.eq, "!=": operator.ne, **_ORDERS}[sign]
    return lambda letter, _: bool(order(letter.attempts, number))


def _ages(sign: str, length: timedelta) -> Test:
    return lambda letter, now: bool(_ORDERS[sign](letter.age(now), length))
