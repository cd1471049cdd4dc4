"""Restrictions and weights, set by operators or the monitor, as delivering processes apply them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from mauntic_jobs.delivery.admission.lanes import script_keys
from mauntic_jobs.delivery.payload import Message
from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.job import Row
from mauntic_jobs.lua import script
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.async_link import PostgresLink
from mauntic_jobs.stores.redis.async_link import RedisLink, Word
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.epoch import milliseconds

# Within it every process knows of a restriction, and that it has ended.
LOOK_SECONDS = 2.0
# Redis may have lost what it was told.
_TELL_SECONDS = 30.0
# So long the scripts let messages go out slowly after a pause.
_RESUMED = timedelta(seconds=10)
_ALL = "*"
_NO_END = 2**53

_sql, _weights_sql = statements("restrictions"), statements("turn_weights")


class Restriction(NamedTuple):
    """What is held back: of whom, to what `rate` in messages a second (0 for a pause), and until when it `ends`.

    What is None is not chosen by: without an organization, a channel, a provider and a campaign it holds for all.
    """

    id: int
    organization: UUID | None
    channel: str | None
    provider: UUID | None
    campaign: str | None
    rate: float
    why: str
    set_by: str
    since: datetime
    ends: datetime | None

    @property
    def is_pause(self) -> bool:
        """Whether nothing is sent at all."""
        return self.rate == 0

    def holds_at(self, now: datetime) -> bool:
        """Return whether it has not ended."""
        return self.ends is None or self.ends > now

    @property
    def name(self) -> str:
        """What it is about, as `admission.lua` names it."""
        return restriction_name(self.organization, self.provider, self.campaign)


def restriction_name(organization: UUID | None, provider: UUID | None, campaign: str | None) -> str:
    """Return what a restriction is about, as `admission.lua` names it."""
    if provider is not None:
        return str(provider)
    return f"{organization} {campaign}" if campaign is not None else str(organization or _ALL)


def read_restriction(row: Row) -> Restriction:
    """Return what a row of `current` says."""
    return Restriction(
        *(row["id"], row["organization_id"], row["channel"], row["provider_id"], row["campaign_id"]),
        *(row["rate"], row["why"], row["set_by"], row["since"], row["ends"]),
    )


class Restrictions:
    """Reads what is restricted and who has which weight, and tells the queues.

    `bases` are their prefixes and names by channel.
    """

    def __init__(
        self,
        postgres: PostgresLink,
        redis: RedisLink,
        bases: Mapping[str, str],
        log_outage: Callable[[str, Exception | None], None],
    ) -> None:
        self._postgres = postgres
        self._redis = redis
        self._bases = bases
        self._log_outage = log_outage
        # By channel and script.
        self._told: dict[tuple[str, str], tuple[dict[str, str], float]] = {}
        self._known: Sequence[Restriction] = ()
        # Read now: later there may be no file left to open.
        self._scripts = {
            "restrictions": script("admission") + script("admission_restrict"),
            "weights": script("admission") + script("admission_weights"),
        }

    async def run(self, until_awake: Callable[[], Awaitable[None]]) -> None:
        """Look every two seconds, but in idle mode, until cancelled."""
        while True:
            await until_awake()
            try:
                await self.look()
            except MaunticJobsError as error:
                self._log_outage("restrictions", error)
            else:
                self._log_outage("restrictions", None)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> bool:
        """Read what is restricted, and tell the queues what has changed; return whether a restriction has.

        Raises MaunticJobsError.
        """
        now, is_changed = clock.now(), False
        rows, weights = await asyncio.gather(
            self._postgres.rows(_sql["current"], {"ended": now - _RESUMED}),
            self._postgres.rows(_weights_sql["current"], {"organization": None}),
        )
        found = [read_restriction(row) for row in rows]
        weighted = {str(row["organization_id"]): f"{row['weight']:.17g}" for row in weights}
        for channel in self._bases:
            values = values_of((each for each in found if each.channel in (None, channel)), now)
            is_changed |= await self._tell(channel, "restrictions", values)
            await self._tell(channel, "weights", weighted)
        # Last: what is given back because of it is not taken again at once.
        self._known = found
        return is_changed

    async def _tell(self, channel: str, name: str, values: dict[str, str]) -> bool:
        """Tell a queue what is in one of its hashes now, if need be; return whether it has changed."""
        base, key = self._bases[channel], (channel, name)
        told, at = self._told.get(key, ({}, 0.0))
        if values != told or key not in self._told or time.monotonic() - at > _TELL_SECONDS:
            words: list[Word] = [f"{base}:", *(word for pair in values.items() for word in pair)]
            await self._redis.script(self._scripts[name], script_keys(base, f"adm:{name}"), words)
            self._told[key] = (values, time.monotonic())
        return values != told

    def pause_of(self, message: Message, channel: str) -> Restriction | None:
        """Return the pause that holds a message of a channel back, whichever provider would send it, or None."""
        if not self._known:
            return None
        now, campaigns = clock.now(), (None, *campaigns_of(message))
        pauses = (
            each
            for each in self._known
            if each.is_pause
            and each.provider is None
            and each.channel in (None, channel)
            and each.organization in (None, message.organization_id)
            and each.campaign in campaigns
            and each.holds_at(now)
        )
        return next(pauses, None)

    def restricted(self, providers: Iterable[UUID]) -> bool:
        """Return whether one of some providers is paused, or has a rate of its own here."""
        return bool(self._known) and any(self._of(each) for each in providers)

    def is_paused(self, provider: UUID) -> bool:
        """Return whether a provider is paused."""
        return bool(self._known) and any(each.is_pause for each in self._of(provider))

    def _of(self, provider: UUID) -> list[Restriction]:
        now = clock.now()
        return [each for each in self._known if each.provider == provider and each.holds_at(now)]

    async def paused_time(self, message: Message, channel: str, since: datetime, now: datetime) -> timedelta:
        """Return for how long a message was held back by pauses between two instants. Raises MaunticJobsError."""
        asked = {
            "organization": message.organization_id,
            "channel": channel,
            "campaigns": campaigns_of(message),
            "since": since,
            "now": now,
        }
        rows = await self._postgres.rows(_sql["paused"], asked)
        paused: timedelta = rows[0]["paused"]
        return paused


def campaigns_of(message: Message) -> list[str]:
    """Return the names of the campaign that a message is of: its own id, and that of the send that it counts in."""
    return [str(each) for each in (message.campaign_id, message.job_id) if each is not None]


def values_of(restrictions: Iterable[Restriction], now: datetime) -> dict[str, str]:
    """Return what the scripts are told, by name: until when, in microseconds since 1970, and the least interval.

    Of several about the same a pause comes first, then the lowest rate, then the pause that has ended last.
    """
    groups: dict[str, list[Restriction]] = {}
    for each in restrictions:
        groups.setdefault(each.name, []).append(each)
    values = {}
    for name, group in groups.items():
        holding = [each for each in group if each.holds_at(now)]
        pauses = [each for each in holding if each.is_pause]
        if holding and not pauses:
            lowest = min(holding, key=lambda each: each.rate)
            values[name] = f"{_end(lowest)} {max(1, round(1_000_000 / lowest.rate))}"
        elif ended := pauses or [each for each in group if each.is_pause]:
            values[name] = f"{max(map(_end, ended))} 0"
    return values


def _end(restriction: Restriction) -> int:
    return _NO_END if restriction.ends is None else milliseconds(restriction.ends) * 1000
