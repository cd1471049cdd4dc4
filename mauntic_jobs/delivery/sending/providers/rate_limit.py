"""Rate limits as provider configurations have them, mostly by nodemailer's keys, and as `admission.lua` takes them."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

# A provider counts at its end: messages that are sent exactly as far apart as it allows arrive closer than that.
_MARGIN = 1.01
DEFAULT_DELTA_MILLISECONDS = 1000
_DAILY = "dailyLimit"
_MAX = MappingProxyType({"rateLimit": 1_000_000, "rateDelta": 86_400_000, "rateBurst": 10_000, _DAILY: 100_000_000})
_WHOLE = ("rateBurst", _DAILY)
_EXPECTED = MappingProxyType({
    "rateLimit": f"a number of messages above 0, {_MAX['rateLimit']:,} at most",
    "rateDelta": f"a number of milliseconds above 0, {_MAX['rateDelta']:,} at most",
    "rateBurst": f"a whole number of messages above 0, {_MAX['rateBurst']:,} at most",
    _DAILY: f"a whole number of messages above 0, {_MAX[_DAILY]:,} at most",
})  # fmt: skip
KEYS = tuple(_MAX)


class RateLimit(NamedTuple):
    """At most `messages` in `seconds`, of which `burst` at once."""

    messages: float
    seconds: float
    burst: int = 1

    @property
    def interval(self) -> int:
        """The interval between two messages in microseconds."""
        return math.ceil(self.seconds * 1_000_000 * _MARGIN / self.messages)

    @property
    def entry(self) -> str:
        """The interval between two messages, and how much earlier than that one may come, both in microseconds."""
        return f"{self.interval}:{self.interval * (self.burst - 1)}"


def rate_limit_of(values: Mapping[str, object]) -> RateLimit | None:
    """Return the limit of a configuration, or None if it has none. Its problems are those of `rate_limit_problems`."""
    messages = positive_number(values.get("rateLimit"))
    if messages is None or rate_limit_problems(values):
        return None
    milliseconds = positive_number(values.get("rateDelta")) or DEFAULT_DELTA_MILLISECONDS
    return RateLimit(messages, milliseconds / 1000, int(positive_number(values.get("rateBurst")) or 1))


def daily_limit_of(values: Mapping[str, object]) -> int | None:
    """Return how many messages a configuration allows within 24 hours, or None for no limit."""
    messages = positive_number(values.get(_DAILY))
    return None if messages is None or rate_limit_problems(values) else int(messages)


def limits_entry(provider: str, values: Mapping[str, object]) -> str:
    """Return a provider with its configured limits as `admission.lua` has them, the provider alone without limits."""
    rate, daily = rate_limit_of(values), daily_limit_of(values)
    pace = rate.entry if rate else ":" if daily else ""
    return "".join((provider, f"@{pace}" if pace else "", f":{daily}" if daily else ""))


def rate_limit_problems(values: Mapping[str, object]) -> list[str]:
    """Return what is wrong with the keys of a rate limit, naming keys and never what they hold."""
    given = {name: positive_number(values[name]) for name in KEYS if is_given(values, name)}
    return [
        f"{name} is not {_EXPECTED[name]}"
        for name, number in given.items()
        if number is None or number > _MAX[name] or (name in _WHOLE and number != int(number))
    ]


def is_given(values: Mapping[str, object], name: str) -> bool:
    """Return whether there is a limit: in nodemailer, 0 and false mean that there is none."""
    return values.get(name) not in (None, "", 0, "0", False)


def positive_number(value: object) -> float | None:
    """Return a finite number above 0, which may be a text, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0 else None
