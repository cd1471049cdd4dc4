"""Rate limits of providers as the delivering processes share them, and what waits for them."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from mauntic_jobs.delivery.admission.lanes import entries_of, lane_names, scores_of
from mauntic_jobs.delivery.channels import CHANNELS
from mauntic_jobs.delivery.queues import base_of
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.redis.client import RedisScripts

_MICROSECONDS = 1_000_000


class ProviderLimit(NamedTuple):
    """A provider that is limited, configured or learned, in messages a second; `rate` is what holds, None for no limit.

    `paused_until` is until when it asks to be left alone, or is left alone because it fails. `waiting` are the messages
    of its organization that wait for their turn, whichever provider sends them.
    """

    organization: UUID
    channel: str
    provider: UUID
    configured: float | None
    learned: float | None
    paused_until: datetime | None
    waiting: int

    @property
    def rate(self) -> float | None:
        """Messages a second that are sent at most."""
        return min((each for each in (self.configured, self.learned) if each is not None), default=None)

    @property
    def seconds(self) -> float | None:
        """How long the messages that wait take at this rate, None where nothing says."""
        return self.waiting / self.rate if self.rate else None


def read_limits(
    redis: RedisScripts, settings: Settings, now: datetime, organization: UUID | None = None
) -> Iterator[ProviderLimit]:
    """Yield the limited providers of all organizations or of one."""
    for channel in CHANNELS:
        base = f"{base_of(settings, channel)}:adm"
        limits = _limits(redis, base, organization)
        for owner, entries in limits.items():
            providers = entries_of(entries)
            states = redis.commands(
                [("HMGET", f"{base}:limit:{each.provider}", "r", "p", "i", "b") for each in providers]
            )
            known = [_known(state) for state in states]
            if not any(each.rate for each in providers) and not any(any(each) for each in known):
                continue
            waiting = _waiting(redis, base_of(settings, channel), owner)
            for entry, (learned, paused) in zip(providers, known, strict=True):
                until = paused if paused and paused > now else None
                if entry.rate or learned or until:
                    yield ProviderLimit(
                        *(UUID(owner), channel, UUID(entry.provider), entry.rate, learned, until, waiting)
                    )


def _limits(redis: RedisScripts, base: str, organization: UUID | None) -> Mapping[str, str]:
    if organization is not None:
        found = redis.command("HGET", f"{base}:limits", str(organization))
        return {str(organization): found.decode()} if found else {}
    return {key.decode(): value.decode() for key, value in redis.command("HGETALL", f"{base}:limits").items()}


def _known(state: list[bytes | None]) -> tuple[float | None, datetime | None]:
    """Return the learned rate, and until when a provider is left alone."""
    rate, paused, interval, failing = (float(each) if each else None for each in state)
    latest = max(paused or 0.0, failing or 0.0)
    until = datetime.fromtimestamp(latest / _MICROSECONDS, UTC) if latest else None
    return rate if interval else None, until


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
