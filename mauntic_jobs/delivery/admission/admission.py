"""Admission to one queue: what its scripts need to know of the organizations' providers, and of their answers."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from enum import IntEnum
from uuid import UUID

from mauntic_jobs.delivery.admission.lanes import lane_names, script_keys
from mauntic_jobs.delivery.payload import Message
from mauntic_jobs.delivery.sending.failover import Failing, Sent
from mauntic_jobs.delivery.sending.outcome import Verdict
from mauntic_jobs.delivery.sending.providers.account import Account
from mauntic_jobs.delivery.sending.providers.base import AnyProvider
from mauntic_jobs.delivery.sending.providers.connections import ConnectionHolder
from mauntic_jobs.delivery.sending.providers.pool import Chosen
from mauntic_jobs.delivery.sending.providers.rate_limit import RateLimit
from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.lua import script
from mauntic_jobs.stores.bullmq.commands import Turn
from mauntic_jobs.stores.bullmq.job import ReceivedJob
from mauntic_jobs.stores.redis.async_link import RedisLink, Word
from mauntic_jobs.timekeeping import clock

# The field of a job that says which lane it belongs to, where its data alone says otherwise.
LANE = "mauntic-jobs:lane"
# Each process looks so often, unless another has looked shortly before.
_AUDIT_SECONDS, _LEASE_SECONDS = 30.0, 15.0
_LANES_A_CALL = 200
# So often each process notes which providers work.
_NOTE_SECONDS = 2.0
# A provider that answers so has not refused a message for its rate.
_TAKEN = (Verdict.ACCEPTED, Verdict.PERMANENT)

# Looks up the providers of an organization anew.
Refresh = Callable[[UUID], Awaitable[Chosen]]


class AccountState(IntEnum):
    """How a provider's account stands, as `admission_account.lua` has it."""

    OPEN = 0
    FULL = 1  # the quota of the day is used up
    NEW = 2  # it was not known before


class Admission:
    """Limits of the organizations on one queue. `base` is its prefix and name; `refresh` is of its channel."""

    def __init__(self, base: str, redis: RedisLink, refresh: Refresh) -> None:
        self._base = base
        self._redis = redis
        self._refresh = refresh
        # Read now: later there may be no file left to open.
        self._report = script("admission") + script("admission_learning") + script("admission_report")
        self._configure, self._audit, self._hold, self._provider, self._account, self._connections = (
            script("admission") + script(f"admission_{name}")
            for name in ("configure", "audit", "hold", "provider", "account", "connections")
        )
        # When it was noted last that a provider works, by the monotonic clock.
        self._noted: dict[UUID, float] = {}

    async def move(self, job: str, lane: str) -> None:
        """Set the lane of a job, which wins over what its data seems to say."""
        await self._redis.command("HSET", f"{self._base}:{job}", LANE, lane)

    async def agree(self, organization: UUID, limits: str) -> None:
        """Have an organization's turns given by its present limits, unless it is this process that has older ones."""
        fresh = await self._refresh(organization)
        if fresh.limits != limits:
            await self._call(self._configure, "adm:limits", [str(organization), fresh.limits])

    async def report(self, provider: str, outcome: str, seconds: float, organization: UUID, limits: str) -> int | None:
        """Note what became of a message, by one of the words that `admission_report.lua` explains.

        `seconds` is for how long the provider asks to be left alone, 0 if it does not say. Returns how many connections
        a process may have, None for no limit.
        """
        arguments: list[Word] = [provider, outcome, int(seconds * 1_000_000), str(organization), limits]
        most = await self._call(self._report, f"adm:limit:{provider}", arguments)
        return None if most < 0 else most

    async def lower_connections(self, holder: ConnectionHolder, organization: UUID, limits: str) -> bool:
        """Note that a provider has too many connections; return whether each process may have fewer than now."""
        known = -1 if holder.most is None else holder.most
        arguments: list[Word] = [holder.opened, known, str(organization), limits]
        most = await self._call(self._connections, f"adm:limit:{holder.config.id}", arguments)
        if most >= 0:
            holder.limit(most)
        return most >= 0

    async def hold(self, lane: str, seconds: float) -> None:
        """Let a lane wait until `free` is called for its organization, for so long at most."""
        await self._call(self._hold, "adm:lanes", [lane, int(seconds * 1_000_000)])

    async def free(self, organization: UUID) -> None:
        """Let the lanes of an organization that wait for a place have their turns."""
        await self._call(self._hold, "adm:lanes", [lane_names(str(organization))[0], 0])

    async def leave_alone(self, provider: UUID, failing: Failing, organization: UUID, limits: str) -> bool:
        """Have turns given over the next provider, or none if there is no other, for as long as one fails.

        Returns whether it is: not where it works for another process, so that the fault is of this host.
        """
        ago = max(0.0, (clock.now() - failing.since).total_seconds())
        arguments: list[Word] = [str(provider), int(failing.seconds * 1_000_000), int(ago * 1_000_000)]
        arguments += [str(organization), limits]
        return bool(await self._call(self._provider, f"adm:limit:{provider}", arguments))

    async def works(self, provider: UUID) -> None:
        """Note that a provider has taken a message, unless that was noted a moment ago.

        One that was left alone is used again at once: slowly at first.
        """
        if time.monotonic() - self._noted.get(provider, -_NOTE_SECONDS) >= _NOTE_SECONDS:
            self._noted[provider] = time.monotonic()
            await self.use_again(provider)

    async def use_again(self, provider: UUID) -> None:
        """Have turns given over a provider that works again: slowly at first."""
        await self._call(self._provider, f"adm:limit:{provider}", [str(provider), 0, 0, "", ""])

    async def begin_asking(self, provider: UUID, seconds: float) -> bool:
        """Keep other processes from asking about a provider's account for so long; return whether none does already."""
        lease = ("SET", f"{self._base}:adm:asked:{provider}", 1, "NX", "PX", int(seconds * 1000))
        return bool(await self._redis.command(*lease))

    async def asked(self, provider: UUID, seconds: float) -> None:
        """Have a provider's account asked about again after so long."""
        await self._redis.command("PEXPIRE", f"{self._base}:adm:asked:{provider}", int(seconds * 1000))

    async def note_account(self, provider: UUID, account: Account, organization: UUID, limits: str) -> AccountState:
        """Note what a provider's account may send; return how that stands."""
        interval = 0 if account.rate is None else RateLimit(account.rate, 1.0).interval
        arguments: list[Word] = [str(provider), interval, -1 if account.daily is None else account.daily, account.sent]
        arguments += [str(organization), limits]
        return AccountState(await self._call(self._account, f"adm:limit:{provider}", arguments))

    async def run(self) -> None:
        """Look for parked jobs that no lane would bring back, until cancelled; one process does at a time."""
        lease = ("SET", f"{self._base}:adm:auditor", 1, "NX", "PX", int(_LEASE_SECONDS * 1000))
        while True:
            # The consumer reports a Redis that is away; here the next time will do.
            with suppress(MaunticJobsError):
                lane = 0 if await self._redis.command(*lease) else None
                while lane is not None:
                    lane = await self._call(self._audit, "prioritized", [lane, _LANES_A_CALL]) or None
            await asyncio.sleep(_AUDIT_SECONDS)

    async def _call(self, text: bytes, key: str, arguments: list[Word]) -> int:
        answer = await self._redis.script(text, script_keys(self._base, key), [*arguments, f"{self._base}:"])
        return answer if isinstance(answer, int) else 0


class Admitted:
    """One message that was admitted by its turn. `is_used`: it was handed to a provider."""

    def __init__(self, admission: Admission, job: ReceivedJob, turn: Turn, message: Message) -> None:
        self._admission = admission
        self._job = job
        self._turn = turn
        self._organization = message.organization_id
        self._is_urgent = message.is_urgent or bool(job.options.get("priority"))
        self.is_used = False

    async def is_in_wrong_lane(self) -> bool:
        """Return whether a job is to be given back because its turn was another lane's; its lane is corrected first."""
        urgent, bulk = lane_names(str(self._organization))
        # The campaign of a lane comes after both.
        lane = self._turn.lane[: len(bulk)]
        # Template data may look like another organization's id, or like a transactional message.
        if lane not in (urgent, bulk) or (lane == urgent and not self._is_urgent):
            await self._admission.move(self._job.id, urgent if self._is_urgent else bulk)
            return True
        return False

    async def is_misplaced(self, chosen: Chosen, failing: Mapping[UUID, Failing], *, is_restricted: bool) -> bool:
        """Return whether a job is to be given back, because its turn was by other limits.

        The limits are corrected first, for its next turn. `chosen` are its organization's providers, of which those
        that are `failing` are left alone; `is_restricted`: one of them is, so that the turns have to know them.
        """
        first = chosen.usable[0].config.id if chosen.usable else None
        own = next((each for each in failing if str(each) == (self._turn.provider or str(first))), None)
        if own is not None and await self.wait_for({own: failing[own]}, chosen):
            return True
        is_limited = chosen.is_limited or is_restricted or bool(failing)
        if self._turn.limits == chosen.limits or not (self._turn.limits or is_limited):
            return False
        await self._admission.agree(self._organization, self._turn.limits)
        return True

    async def wait_with(self, campaign: str) -> None:
        """Have the job wait in the lane of its campaign, which is paused, once it is given back."""
        urgent, bulk = lane_names(str(self._organization))
        await self._admission.move(self._job.id, f"{urgent if self._is_urgent else bulk} {campaign}")

    async def wait_for_place(self, seconds: float) -> None:
        """Have the lane of the job wait for a place of its organization, for so long at most."""
        await self._admission.hold(self._turn.lane, seconds)

    async def wait_for(self, failing: Mapping[UUID, Failing], chosen: Chosen) -> bool:
        """Have turns given without providers that fail; return whether that is so of all of them."""
        told = [
            await self._admission.leave_alone(provider, each, self._organization, chosen.limits)
            for provider, each in failing.items()
        ]
        return all(told)

    async def until_turn(self) -> None:
        """Wait until the turn comes, for which the message was prepared."""
        if (seconds := self._turn.seconds_left) > 0:
            await asyncio.sleep(seconds)

    def providers(self, usable: Sequence[AnyProvider]) -> Sequence[AnyProvider]:
        """Return the providers from the one on whose turn it is."""
        names = [str(each.config.id) for each in usable]
        return usable[names.index(self._turn.provider) :] if self._turn.provider in names else usable

    async def learn(self, chosen: Chosen, sent: Sent) -> None:
        """Note which provider has taken the message, and which have refused it for their rate, quota or connections."""
        holders = chosen.holders
        for provider, refused in sent.throttled.items():
            holder = holders.get(provider) if refused.is_crowded else None
            if holder is not None and await self._admission.lower_connections(
                holder, self._organization, chosen.limits
            ):
                continue
            is_limited = self._turn.provider == str(provider)
            outcome = "full" if refused.is_daily else "refused" if is_limited else "unlimited"
            await self._note(str(provider), outcome, chosen, refused.seconds or 0.0)
        is_taken = sent.provider is not None and sent.outcome.verdict in _TAKEN
        taker = sent.provider.config.id if sent.provider is not None and is_taken else None
        await self._count_elsewhere(chosen, sent, taker)
        if taker is not None:
            await self._admission.works(taker)
            most = await self._note(str(taker), "accepted", chosen) if self._turn.provider else None
            if taker in holders:
                holders[taker].limit(most)

    async def _count_elsewhere(self, chosen: Chosen, sent: Sent, taker: UUID | None) -> None:
        """Correct what counts towards limits of a day, where another provider than that of the turn was tried."""
        first = str(chosen.usable[0].config.id) if chosen.usable else ""
        if sent.outcome.verdict is Verdict.UNKNOWN or str(taker) == (self._turn.provider or first):
            return
        if self._turn.provider:
            await self._note(self._turn.provider, "elsewhere", chosen)
        if taker is not None:
            await self._note(str(taker), "counted", chosen)

    async def _note(self, provider: str, outcome: str, chosen: Chosen, seconds: float = 0.0) -> int | None:
        return await self._admission.report(provider, outcome, seconds, self._organization, chosen.limits)

    async def release(self) -> None:
        """Give the turn back if it was not used."""
        if self._turn.provider and not self.is_used:
            with suppress(MaunticJobsError):  # the next message is the later for it, and nothing else
                report = self._admission.report
                await report(self._turn.provider, "unsent", 0.0, self._organization, self._turn.limits)
