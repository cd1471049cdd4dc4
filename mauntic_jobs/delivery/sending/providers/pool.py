"""The providers of each organization, with what they keep open, for as long as their configuration stays."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

from mauntic_jobs.aio.ttl_cache import Cache
from mauntic_jobs.delivery.sending.providers.base import AnyProvider
from mauntic_jobs.delivery.sending.providers.config import ProviderConfig, ProviderError, read_config
from mauntic_jobs.delivery.sending.providers.connections import ConnectionHolder
from mauntic_jobs.delivery.sending.providers.keys import max_connections
from mauntic_jobs.delivery.sending.providers.rate_limit import limits_entry, rate_limit_problems
from mauntic_jobs.delivery.sending.providers.registry import Factory
from mauntic_jobs.job import Row
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.async_link import PostgresLink

_CONFIG_SECONDS = 30
_FRESH_SECONDS = 1.0
_MAX_PROVIDERS = 10_000

_sql = statements("deliveries")


@dataclass(frozen=True)
class Chosen:
    """The providers of an organization for a channel, the first to be tried first, and why others cannot be used.

    `limits` names them with their configured rate limits, as `admission.lua` has them; `is_limited` if there is one.
    `configured_places` is how many messages at once the first one's server may be sent by a process, None for no limit.
    """

    usable: tuple[AnyProvider, ...]
    problems: tuple[str, ...]
    limits: str = ""
    is_limited: bool = False
    configured_places: int | None = None

    @cached_property
    def holders(self) -> Mapping[UUID, ConnectionHolder]:
        """Those of the providers that keep connections, by their ids."""
        # Kept, because isinstance reads every attribute of the protocol: `opened` counts connections for each message.
        return {each.config.id: each for each in self.usable if isinstance(each, ConnectionHolder)}

    @property
    def places(self) -> int | None:
        """Limit of messages at once over the first provider in a process: the lower of configured and learned."""
        holder = self.holders.get(self.usable[0].config.id) if self.usable else None
        if holder is None or holder.most is None:
            return self.configured_places
        learned = max(holder.most, 1)
        return learned if self.configured_places is None else min(self.configured_places, learned)


class ProviderPool:
    """Finds and makes providers. `factories` are by channel and kind; `log` hears of each new problem once."""

    def __init__(
        self,
        postgres: PostgresLink,
        factories: Mapping[tuple[str, str], Factory],
        encryption_key: str | None,
        log: Callable[[str], None],
    ) -> None:
        self._postgres = postgres
        self._factories = factories
        self._encryption_key = encryption_key
        self._log = log
        self._told: dict[UUID, str] = {}
        # The one that was looked up last stands at the end.
        self._made: OrderedDict[UUID, tuple[ProviderConfig, AnyProvider]] = OrderedDict()
        self._found: dict[tuple[UUID, str], set[UUID]] = {}
        # Set with each provider that is made.
        self.has_made = asyncio.Event()
        self._chosen: Cache[tuple[UUID, str], Chosen] = Cache(self._find, _CONFIG_SECONDS)

    async def providers(self, organization: UUID, channel: str) -> Chosen:
        """Return the providers as they were configured less than half a minute ago."""
        return await self._chosen.get((organization, channel))

    async def refreshed(self, organization: UUID, channel: str) -> Chosen:
        """Return the providers as they were configured less than a second ago."""
        return await self._chosen.refreshed((organization, channel), _FRESH_SECONDS)

    def describe(self, provider: UUID) -> tuple[str, str] | None:
        """Return the channel and the name of a provider that was made here, or None."""
        made = self._made.get(provider)
        channel = next((key[1] for key, found in self._found.items() if provider in found), None)
        return None if made is None or channel is None else (channel, made[0].name)

    def made(self) -> Iterator[tuple[UUID, str, AnyProvider]]:
        """Yield the providers that are kept here, with their organization and channel."""
        for (organization, channel), found in list(self._found.items()):
            for each in found:
                if each in self._made:
                    yield organization, channel, self._made[each][1]

    def abort(self) -> None:
        """End all exchanges now."""
        for _, provider in list(self._made.values()):
            provider.abort()

    async def close(self) -> None:
        """Close what the providers keep open."""
        for _, provider in list(self._made.values()):
            await provider.close()

    async def _find(self, key: tuple[UUID, str]) -> Chosen:
        organization, channel = key
        rows = await self._postgres.rows(_sql["providers"], {"organization": organization, "channel": channel})
        await self._let_go(key, {row["id"] for row in rows})
        usable, problems = [], []
        for row in rows:
            try:
                usable.append(await self._provider(channel, row))
            except ProviderError as error:
                problems.append(str(error))
                if self._told.get(row["id"]) != str(error):
                    self._told[row["id"]] = str(error)
                    self._log(str(error))
            else:
                self._told.pop(row["id"], None)
        limits = " ".join(limits_entry(str(each.config.id), each.config.values) for each in usable)
        places = max_connections(usable[0].config.values) if usable else None
        return Chosen(tuple(usable), tuple(problems), limits, "@" in limits, places)

    async def _let_go(self, key: tuple[UUID, str], found: set[UUID]) -> None:
        """Close the providers that are not configured any more, and beyond the bound those not used for longest."""
        gone = self._found.pop(key, set()) - found
        if found:
            self._found[key] = found
        for config in gone:
            self._told.pop(config, None)
        closing = [self._made.pop(config)[1] for config in gone if config in self._made]
        while len(self._made) > _MAX_PROVIDERS:
            closing.append(self._made.popitem(last=False)[1][1])
        if len(self._found) > _MAX_PROVIDERS:
            self._found.pop(next(iter(self._found)))
        for provider in closing:
            await provider.close()

    async def _provider(self, channel: str, row: Row) -> AnyProvider:
        config = read_config(row["id"], row["provider_type"], row["config"], self._encryption_key)
        made = self._made.get(config.id)
        if made is not None and made[0] == config:
            self._made.move_to_end(config.id)
            return made[1]
        factory = self._factories.get((channel, config.type))
        if factory is None:
            raise ProviderError(f"{config.name}: this kind of provider is not supported for {channel}")
        wrong = rate_limit_problems(config.values)
        if wrong:
            raise ProviderError(f"{config.name}: {', '.join(wrong)}")
        provider = factory(config)
        self._made[config.id] = (config, provider)
        self.has_made.set()
        if made is not None:
            await made[1].close()
        return provider
