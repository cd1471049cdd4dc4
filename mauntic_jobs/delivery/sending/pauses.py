"""Paused providers of all processes, in Postgres: written from this process's circuit breaker, and read back."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from datetime import timedelta
from typing import Any
from uuid import UUID

from mauntic_jobs.delivery.sending.circuit_breaker import CircuitBreaker, Refusal
from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.job import Row
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.async_link import PostgresLink
from mauntic_jobs.timekeeping import clock

# Within it every process closes the breaker of a provider whose row was deleted.
LOOK_SECONDS = 2.0
# A provider that nothing has tried for so long after its pause is no longer known to fail.
KNOWN_AFTER_PAUSE = timedelta(minutes=10)

# Hears of an organization and its provider that works again.
UseAgain = Callable[[UUID, UUID], Awaitable[None]]

_sql = statements("pauses")


class Pauses:
    """Publishes which providers the breaker has paused, and closes it where another process or an operator says so.

    `log_outage` hears of errors of Postgres, `log` once of each pause, and `use_again` of each provider whose pause a
    success or an operator has ended. Keys are organization and provider.
    """

    def __init__(
        self,
        postgres: PostgresLink,
        breaker: CircuitBreaker,
        describe: Callable[[UUID], tuple[str, str] | None],
        log_outage: Callable[[str, Exception | None], None],
        log: Callable[[str], None],
        use_again: UseAgain,
    ) -> None:
        self._postgres = postgres
        self._breaker = breaker
        self._describe = describe
        self._log_outage = log_outage
        self._log = log
        self._use_again = use_again
        self._published: dict[Hashable, Refusal] = {}

    async def run(self, until_awake: Callable[[], Awaitable[None]]) -> None:
        """Look every two seconds, but in idle mode, until cancelled."""
        while True:
            await until_awake()
            try:
                await self.look()
            except MaunticJobsError as error:
                self._log_outage("provider pauses", error)
            else:
                self._log_outage("provider pauses", None)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Bring the breaker and the rows in line, once."""
        rows = await self._postgres.rows(_sql["list"], {})
        known: dict[Hashable, Row] = {(row["organization_id"], row["provider_id"]): row for row in rows}
        self._breaker.watch(frozenset(known))
        for key in [key for key in self._published if key not in known]:
            await self._use_again(*_owned(key))
            del self._published[key]
            self._breaker.close(key)
        for key in list(self._breaker.recovered):
            if key in known:
                await self._postgres.rows(_sql["end"], _names(key))
                await self._use_again(*_owned(key))
                del known[key]
            self._breaker.recovered.discard(key)
            self._published.pop(key, None)
        for key, row in known.items():
            if row["until"] > clock.now() - KNOWN_AFTER_PAUSE:
                self._adopt(key, row)
        for key, (refusal, seconds) in self._breaker.opened().items():
            if self._published.get(key) != refusal:
                await self._publish(key, refusal, seconds)

    def _adopt(self, key: Hashable, row: Row) -> None:
        """Know of a pause of another process, so that one more failure here goes on with it."""
        published = self._published.get(key)
        if published is None or published.tries < row["tries"]:
            refusal = Refusal(row["reason"], row["since"], row["tries"])
            self._breaker.adopt(key, refusal, (row["until"] - clock.now()).total_seconds())
            self._published[key] = refusal

    async def _publish(self, key: Hashable, refusal: Refusal, seconds: float) -> None:
        names = _names(key)
        described = self._describe(names["provider"])
        if described is None:  # its configuration was removed meanwhile
            return
        channel, name = described
        until = clock.now() + timedelta(seconds=seconds)
        row = {**names, "channel": channel, "name": name, "until": until, "reason": refusal.reason}
        await self._postgres.rows(_sql["publish"], {**row, "since": refusal.since, "tries": refusal.tries})
        if key not in self._published:
            self._log(f"{name} of organization {names['organization']} is paused: {refusal}")
        self._published[key] = refusal


def _owned(key: Any) -> tuple[UUID, UUID]:
    organization, provider = key
    return organization, provider


def _names(key: object) -> dict[str, Any]:
    organization, provider = _owned(key)
    return {"organization": organization, "provider": provider}
