"""Rate limits of providers as the delivering processes share them, and what waits for them."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

from mauntic_jobs.delivery.admission.daily import day_use
from mauntic_jobs.delivery.admission.lanes import ProviderEntry, entries_of, lane_names, scores_of
from mauntic_jobs.delivery.channels import CHANNELS
from mauntic_jobs.delivery.queues import base_of
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.redis.client import RedisScripts

_MICROSECONDS = 1_000_000


class ProviderLimit(NamedTuple):
    """A provider that is limited, configured, learned or by its account, in messages a second.

    `rate` is what holds, None for no limit. `paused_until` is until when it asks to be left alone, or is left alone
    because it fails. `daily` is how many messages it may be sent within 24 hours, of which `used` count; while none is
    left, `full_until` is when there is room, or when the provider is asked again. `connections` is how many each
    process may have at once, configured or learned; 0 if each ends with its message. `waiting` are the messages of its
    organization that wait for their turn, whichever provider sends them.
    """

    organization: UUID
    channel: str
    provider: UUID
    configured: float | None
    learned: float | None
    account: float | None
    paused_until: datetime | None
    daily: int | None
    used: int | None
    full_until: datetime | None
    connections: int | None
    waiting: int

    @property
    def rate(self) -> float | None:
        """Messages a second that are sent at most."""
        known = self.account if self.configured is None else self.configured
        return min((each for each in (known, self.learned) if each is not None), default=None)

    @property
    def rate_source(self) -> str:
        """Where the rate is from: `configured`, `learned` or `of the account`."""
        if self.rate == self.configured:
            return "configured"
        return "of the account" if self.rate == self.account else "learned"

    @property
    def seconds(self) -> float | None:
        """How long the messages that wait take at this rate, None where nothing says."""
        return self.waiting / self.rate if self.rate else None


def read_limits(
    redis: RedisScripts,
    settings: Settings,
    now: datetime,
    organization: UUID | None = None,
    configured: Mapping[tuple[str, str], Mapping[str, int]] = MappingProxyType({}),
) -> Iterator[ProviderLimit]:
    """Yield the limited providers of all organizations or of one.

    The queues do not know the `configured` numbers of connections, which are those of `connection_limits`.
    """
    for channel in CHANNELS:
        base = base_of(settings, channel)
        known = _limits(redis, f"{base}:adm", organization)
        for owner in sorted({*known, *(each for name, each in configured if name == channel)}):
            connections = configured.get((channel, owner), {})
            yield from _of_organization(redis, base, channel, owner, known.get(owner, ""), now, connections)


def full_providers(redis: RedisScripts, settings: Settings, now: datetime, most: int) -> list[ProviderLimit]:
    """Return providers whose limit of a day is reached, of each channel `most` at the most."""
    found = []
    for channel in CHANNELS:
        base = base_of(settings, channel)
        since = f"({round(now.timestamp() * _MICROSECONDS)}"
        names = redis.command("ZRANGEBYSCORE", f"{base}:adm:full", since, "+inf", "LIMIT", 0, most)
        listed = [name.decode().split() for name in names]
        for owner in sorted({each[0] for each in listed}):
            entries = _limits(redis, f"{base}:adm", UUID(owner)).get(owner, "")
            own = _of_organization(redis, base, channel, owner, entries, now)
            found += [each for each in own if each.full_until and [owner, str(each.provider)] in listed]
    return found


def _of_organization(
    redis: RedisScripts,
    base: str,
    channel: str,
    owner: str,
    entries: str,
    now: datetime,
    configured: Mapping[str, int] = MappingProxyType({}),
) -> Iterator[ProviderLimit]:
    providers = entries_of(entries)
    named = {each.provider for each in providers}
    providers += [ProviderEntry(each, None, None) for each in configured if each not in named]
    states = redis.commands([("HGETALL", f"{base}:adm:limit:{each.provider}") for each in providers])
    days = redis.commands([("HGETALL", f"{base}:adm:day:{each.provider}") for each in providers])
    found = []
    for entry, state, day in zip(providers, map(_hash, states), map(_hash, days), strict=True):
        account = None if b"a" not in state else _MICROSECONDS / float(state[b"a"])
        learned = float(state[b"r"]) if b"i" in state else None
        paused = _until(max(float(state.get(name, 0)) for name in (b"p", b"b")), now)
        daily, used, full = _day(entry.daily, state, day, now)
        most = (int(state[b"k"]) if b"k" in state else None, configured.get(entry.provider))
        connections = min((each for each in most if each is not None), default=None)
        limits = (entry.rate, learned, account, paused, daily, used, full, connections)
        if any(each is not None for each in limits):
            found.append((entry.provider, limits))
    waiting = _waiting(redis, base, owner) if found else 0
    for provider, limits in found:
        yield ProviderLimit(UUID(owner), channel, UUID(provider), *limits, waiting)


def _day(
    configured: int | None, state: Mapping[bytes, bytes], turns: Mapping[bytes, bytes], now: datetime
) -> tuple[int | None, int | None, datetime | None]:
    """Return how many messages a provider may be sent within 24 hours, how many count, and until when it is full."""
    own = None if b"m" not in state else int(state[b"m"])
    daily = min((each for each in (configured, own) if each is not None), default=None)
    full = _until(float(state.get(b"f", 0)), now)
    if daily is None:
        return None, None, full
    use = day_use(turns, daily, int(state.get(b"o", 0)), now)
    return daily, use.used, max((each for each in (full, use.full_until) if each is not None), default=None)


def _hash(words: Any) -> Mapping[bytes, bytes]:
    return words if isinstance(words, dict) else dict(zip(words[::2], words[1::2], strict=True))


def _until(microseconds: float, now: datetime) -> datetime | None:
    until = datetime.fromtimestamp(microseconds / _MICROSECONDS, UTC)
    return until if until > now else None


def _limits(redis: RedisScripts, base: str, organization: UUID | None) -> Mapping[str, str]:
    if organization is not None:
        found = redis.command("HGET", f"{base}:limits", str(organization))
        return {str(organization): found.decode()} if found else {}
    return {key.decode(): value.decode() for key, value in _hash(redis.command("HGETALL", f"{base}:limits")).items()}


def waiting_for(redis: RedisScripts, providers: Sequence[tuple[str, UUID, UUID]]) -> list[int]:
    """Return how many messages wait on their queue for each provider, and for nothing else.

    A provider is given with the prefix and name of its queue, and its organization.
    """
    asked = [("HMGET", f"{base}:adm:lanes", *lane_names(str(owner))) for base, owner, _ in providers]
    found = [
        (place, base, lane, provider)
        for place, ((base, _, provider), lanes) in enumerate(zip(providers, redis.commands(asked), strict=True))
        for lane in lanes
        if lane is not None
    ]
    blockers = redis.commands([("HGET", f"{base}:adm:where", lane) for _, base, lane, _ in found])
    held = [
        (place, base, lane)
        for (place, base, lane, provider), blocker in zip(found, blockers, strict=True)
        if blocker is not None and blocker.decode() == str(provider)
    ]
    counts = redis.commands([("ZCOUNT", f"{base}:prioritized", *scores_of(int(lane))) for _, base, lane in held])
    waiting = [0] * len(providers)
    for (place, *_), count in zip(held, counts, strict=True):
        waiting[place] += count
    return waiting


def _waiting(redis: RedisScripts, base: str, organization: str) -> int:
    lanes = redis.command("HMGET", f"{base}:adm:lanes", *lane_names(organization))
    counts = [("ZCOUNT", f"{base}:prioritized", *scores_of(int(lane))) for lane in lanes if lane]
    return sum(redis.commands(counts)) if counts else 0
