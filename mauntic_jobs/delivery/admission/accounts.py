"""Limits of providers' accounts, which one process asks about now and then for all."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from uuid import UUID

from mauntic_jobs.delivery.admission.admission import AccountState, Admission
from mauntic_jobs.delivery.sending.failover import clean
from mauntic_jobs.delivery.sending.providers.account import AccountHolder
from mauntic_jobs.delivery.sending.providers.http import ExchangeError
from mauntic_jobs.delivery.sending.providers.pool import ProviderPool
from mauntic_jobs.errors import MaunticJobsError

_LOOK_SECONDS = 2.0
# Each process tries to be the one that asks so often; what asks first holds the others off.
_TRY_SECONDS = 60.0
# How long the answer holds; less while the quota is used up, and where there was none. What was in hand at the first
# answer is counted in the second.
_HOLDS_SECONDS, _SOON_SECONDS = 3600.0, 600.0
_HOLDS = {AccountState.OPEN: _HOLDS_SECONDS, AccountState.FULL: _SOON_SECONDS, AccountState.NEW: _TRY_SECONDS}
_MAX_AT_ONCE = 20


class AccountLimits:
    """Asks the providers of a process that tell what their accounts may send. `log` hears of each new problem once."""

    def __init__(self, pool: ProviderPool, admissions: Mapping[str, Admission], log: Callable[[str], None]) -> None:
        self._pool = pool
        self._admissions = admissions
        self._log = log
        self._next: dict[UUID, float] = {}
        self._told: dict[UUID, str] = {}

    async def run(self, until_awake: Callable[[], Awaitable[None]]) -> None:
        """Look every two seconds and at each new provider, but in idle mode, until cancelled."""
        while True:
            await until_awake()
            self._pool.has_made.clear()
            await self.look()
            # A provider that is new here is asked about before many messages have gone out over it.
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._pool.has_made.wait()

    async def look(self) -> None:
        """Ask about each account about which no process has asked lately."""
        now = time.monotonic()
        due: list[tuple[UUID, str, AccountHolder]] = []
        known = self._next
        self._next = {}
        for organization, channel, provider in self._pool.made():
            if isinstance(provider, AccountHolder):
                at = known.get(provider.config.id, now)
                if now >= at and len(due) < _MAX_AT_ONCE:
                    due.append((organization, channel, provider))
                    at = now + _TRY_SECONDS
                self._next[provider.config.id] = at
        await asyncio.gather(*(self._ask(*each) for each in due))

    async def _ask(self, organization: UUID, channel: str, provider: AccountHolder) -> None:
        admission = self._admissions.get(channel)
        if admission is None:  # its messages stand on another channel's queue
            return
        try:
            # A process that dies meanwhile keeps the others from asking for no longer than this.
            if not await admission.begin_asking(provider.config.id, _TRY_SECONDS):
                return
            seconds = await self._asked(admission, organization, channel, provider)
            await admission.asked(provider.config.id, seconds)
        except MaunticJobsError:
            return  # a store that is away; the consumers report it, and the next time will do

    async def _asked(self, admission: Admission, organization: UUID, channel: str, provider: AccountHolder) -> float:
        """Ask about one account, and note the answer; return after how many seconds to ask again."""
        name, config = provider.config.name, provider.config
        try:
            account = await provider.account()
        except ExchangeError as error:
            self._tell(config.id, f"{name}: its account's limits are not known: {clean(error.outcome.reason)}")
            return _SOON_SECONDS
        if account is None:
            told = "the key may not see the account (ses:GetAccount), so its rate is learned and its quota is not known"
            self._tell(config.id, f"{name}: {told}")
            return _HOLDS_SECONDS
        self._tell(config.id, f"{name}: its account is {account.standing}" if account.standing else "")
        chosen = await self._pool.providers(organization, channel)
        return _HOLDS[await admission.note_account(config.id, account, organization, chosen.limits)]

    def _tell(self, provider: UUID, problem: str) -> None:
        if problem and self._told.get(provider) != problem:
            self._log(problem)
        self._told[provider] = problem
