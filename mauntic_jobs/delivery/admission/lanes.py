"""Lanes of a queue as `admission.lua` keeps them, for those that read them: how many jobs are parked for whom."""

from typing import NamedTuple

_SPAN, _LOWEST = 2**35, -(2**53)
CLASSES = ("transactional", "bulk")
_PLACES = tuple(range(len(CLASSES)))


class ProviderEntry(NamedTuple):
    """A provider among the limits of an organization, with its configured limits, None without them.

    `rate` is in messages a second, `daily` in messages within 24 hours.
    """

    provider: str
    rate: float | None
    daily: int | None


def entries_of(limits: str) -> list[ProviderEntry]:
    """Return the providers of an organization, the first to be tried first, from the field of the hash `limits`."""
    found = []
    for entry in limits.split():
        provider, _, pace = entry.partition("@")
        interval, _, daily = (*pace.split(":"), "", "")[:3]
        rate = 1_000_000 / int(interval) if interval else None
        found.append(ProviderEntry(provider, rate, int(daily) if daily else None))
    return found


def scores_of(lane: int) -> tuple[int, str]:
    """Return the lowest and the highest score of the jobs of a lane, as ZCOUNT takes them."""
    first = _LOWEST + lane * _SPAN
    return first, f"({first + _SPAN}"


def lane_of(score: float) -> int:
    """Return the lane of a parked job by its score."""
    return int(score - _LOWEST) // _SPAN


def lane_names(organization: str) -> list[str]:
    """Return the names of an organization's lanes, one for each of `CLASSES`."""
    return [f"{place} {organization}" for place in _PLACES]


def script_keys(base: str, key: str) -> list[str]:
    """Return KEYS of a script of admission on the queue with this prefix and name: a key, and one that never exists.

    While a cluster moves the keys of a slot one by one, it refuses a script with both. It would end one that has the
    first alone in the middle, at a key that is not named and has moved.
    """
    return [f"{base}:{key}", f"{base}:adm:none"]
