"""Assembly of a delivering process from its parts."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID
from zoneinfo import ZoneInfo

from mauntic_jobs.aio.idle_mode import IdleMode
from mauntic_jobs.delivery.admission.accounts import AccountLimits
from mauntic_jobs.delivery.admission.admission import Admission
from mauntic_jobs.delivery.admission.restrictions import Restrictions
from mauntic_jobs.delivery.channels import CHANNELS
from mauntic_jobs.delivery.consumer.consumer import Consumer, Report
from mauntic_jobs.delivery.consumer.queue_calls import LogOutage
from mauntic_jobs.delivery.consumer.work import Work
from mauntic_jobs.delivery.job_outcome import Decision, GiveBack
from mauntic_jobs.delivery.ledger.ledger import Ledger
from mauntic_jobs.delivery.pipeline.fair_share import FairShare
from mauntic_jobs.delivery.pipeline.foreign_losses import ForeignLosses
from mauntic_jobs.delivery.pipeline.frequency_caps import FrequencyCaps
from mauntic_jobs.delivery.pipeline.pipeline import Pipeline
from mauntic_jobs.delivery.pipeline.quiet_hours import QuietTimes
from mauntic_jobs.delivery.process.clock_watch import ClockWatch
from mauntic_jobs.delivery.process.schema_check import check_schema
from mauntic_jobs.delivery.queues import base_of, policy_of
from mauntic_jobs.delivery.render.email import EmailRenderer
from mauntic_jobs.delivery.render.lookups import Lookups
from mauntic_jobs.delivery.render.push import PushRenderer
from mauntic_jobs.delivery.render.recipient_guard import guard_of
from mauntic_jobs.delivery.render.renderer import AnyRenderer
from mauntic_jobs.delivery.render.sms import SmsRenderer
from mauntic_jobs.delivery.sending.circuit_breaker import CircuitBreaker
from mauntic_jobs.delivery.sending.failover import Sending
from mauntic_jobs.delivery.sending.pauses import Pauses
from mauntic_jobs.delivery.sending.providers.http import HttpClient
from mauntic_jobs.delivery.sending.providers.idle import IdleConnections
from mauntic_jobs.delivery.sending.providers.pool import ProviderPool
from mauntic_jobs.delivery.sending.providers.registry import factories
from mauntic_jobs.delivery.stats import ChannelStats
from mauntic_jobs.settings.frequency_cap import FrequencyCap
from mauntic_jobs.settings.quiet_hours import QuietHours
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.settings.types import MessageLimits
from mauntic_jobs.stores.bullmq.job import ReceivedJob
from mauntic_jobs.stores.bullmq.workers import worker_name
from mauntic_jobs.stores.postgres.async_link import PostgresLink
from mauntic_jobs.stores.redis.async_link import RedisLink
from mauntic_jobs.warmup.quota import Warmup

_WRITERS: Mapping[str, Callable[[Lookups, MessageLimits], AnyRenderer]] = {
    "email": EmailRenderer,
    "sms": SmsRenderer,
    "push": PushRenderer,
}


@dataclass(frozen=True)
class DeliveryPlan:
    """What is to be delivered: channels with how many messages at once, and for how long."""

    concurrency: Mapping[str, int]
    max_age: timedelta
    drain_timeout: timedelta
    until_empty: bool = False


@dataclass(frozen=True)
class DeliveryParts:
    """The parts of a delivering process, connected."""

    pipeline: Pipeline
    directory: ProviderPool
    ledger: Ledger
    redis: RedisLink
    consumers: list[Consumer]
    idle: IdleConnections
    clocks: ClockWatch
    pauses: Pauses
    admissions: Sequence[Admission]
    restrictions: Restrictions
    idle_mode: IdleMode
    accounts: AccountLimits


class _Links:
    """Connections of a process, which are closed with `stack`."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._stack = stack

    def postgres(self) -> PostgresLink:
        """Return a connection of its own."""
        link = PostgresLink(self._settings)
        self._stack.push_async_callback(link.close)
        return link

    def redis(self, name: str | None = None) -> RedisLink:
        """Return a connection of its own, under the name that CLIENT LIST shows."""
        link = RedisLink(self._settings, name)
        self._stack.push_async_callback(link.close)
        return link


@asynccontextmanager
async def connected(
    settings: Settings,
    plan: DeliveryPlan,
    stats: Mapping[str, ChannelStats],
    log_outage: LogOutage,
    log: Callable[[str], None],
    report: Report,
) -> AsyncIterator[DeliveryParts]:
    """Connect the parts. Raises MaunticJobsError if Postgres or Redis cannot be reached, or are not set up."""
    async with AsyncExitStack() as stack:
        links = _Links(settings, stack)
        claims, records, found, shared = links.postgres(), links.postgres(), links.postgres(), links.redis()
        ledger = Ledger(claims, records, record_activity=settings.record_activity, log_outage=log_outage)
        await asyncio.gather(ledger.check(), shared.command("PING"))
        await check_schema(found)
        clocks = ClockWatch(records, shared, log_outage)
        await clocks.look()
        lookups = Lookups(found)
        fairness = {name: FairShare(count) for name, count in plan.concurrency.items()}
        directory, idle = _providers(settings, found, stack, log)
        breaker, limits = CircuitBreaker(), settings.message_limits
        bases = {name: base_of(settings, name) for name in stats}
        refresh = {name: partial(directory.refreshed, channel=name) for name in stats}
        admissions = {name: Admission(base, shared, refresh[name]) for name, base in bases.items()}
        restrictions = Restrictions(found, shared, bases, log_outage)
        await restrictions.look()
        # Exchanges are by channel themselves, whichever channel's numbers keep them.
        observe = next(iter(stats.values())).exchange
        pipeline = Pipeline(
            ledger=ledger,
            lookups=lookups,
            directory=directory,
            warmup=Warmup(shared),
            sending=Sending(breaker, observe),
            redis=shared,
            writers={name: writer(lookups, limits) for name, writer in _WRITERS.items()},
            fairness=fairness,
            max_age=plan.max_age,
            limits=limits,
            admissions=admissions,
            guard=guard_of(settings),
            restrictions=restrictions,
            quiet_times=_quiet_times(settings, lookups),
            caps=_frequency_caps(settings, found),
        )
        losses = ForeignLosses(ledger, shared, limits)
        use_again = partial(_use_again, directory, admissions)
        pauses = Pauses(claims, breaker, directory.describe, log_outage, log, use_again)
        idle_mode = IdleMode(partial(_refresh, restrictions, pauses, clocks))
        works = [_work(settings, plan, name, pipeline, losses, fairness[name], clocks, idle_mode) for name in stats]
        consumers = [
            Consumer(work, shared, links.redis(worker_name(work.base)), own, log_outage, report)
            for work, own in zip(works, stats.values(), strict=True)
        ]
        yield DeliveryParts(
            *(pipeline, directory, ledger, shared, consumers, idle, clocks, pauses),
            *(list(admissions.values()), restrictions, idle_mode, AccountLimits(directory, admissions, log)),
        )


async def _refresh(restrictions: Restrictions, pauses: Pauses, clocks: ClockWatch) -> float | None:
    """Read what may have changed in idle mode, over all connections at once, which the messages use afterwards.

    Return until when, by the monotonic clock, jobs had their turns by other restrictions, or None.
    """

    async def look() -> float | None:
        return time.monotonic() if await restrictions.look() else None

    told, _, _ = await asyncio.gather(look(), pauses.look(), clocks.look())
    return math.inf if clocks.is_wrong else told


def _providers(
    settings: Settings, postgres: PostgresLink, stack: AsyncExitStack, log: Callable[[str], None]
) -> tuple[ProviderPool, IdleConnections]:
    key = settings.encryption_key.get_secret_value() if settings.encryption_key else None
    client = HttpClient(timeout=settings.send_timeout.total_seconds())
    stack.push_async_callback(client.close)
    idle = IdleConnections()
    pool = ProviderPool(postgres, factories(settings, client, idle), key, log)
    stack.push_async_callback(pool.close)
    return pool, idle


async def _use_again(
    pool: ProviderPool, admissions: Mapping[str, Admission], organization: UUID, provider: UUID
) -> None:
    """Have turns given again over a provider, with its present configuration, which may have been put right."""
    described = pool.describe(provider)
    if described is None:
        # This process has never used it, and does not know of which channel it is.
        for admission in admissions.values():
            await admission.use_again(provider)
        return
    channel, _ = described
    await pool.refreshed(organization, channel)
    if channel in admissions:  # it may have been used for a message on another channel's queue
        await admissions[channel].use_again(provider)


def _quiet_times(settings: Settings, lookups: Lookups) -> QuietTimes:
    given = {name: own.quiet_hours for name, own in settings.channels.items() if own.quiet_hours}
    hours: dict[str, QuietHours] = {name: QuietHours.read(text) for name, text in given.items()}
    return QuietTimes(lookups, hours, ZoneInfo(settings.contacts_timezone))


def _frequency_caps(settings: Settings, postgres: PostgresLink) -> FrequencyCaps:
    given = {name: own.frequency_cap for name, own in settings.channels.items() if own.frequency_cap}
    return FrequencyCaps(postgres, {name: FrequencyCap.read(text) for name, text in given.items()})


def _work(
    settings: Settings,
    plan: DeliveryPlan,
    channel: str,
    pipeline: Pipeline,
    losses: ForeignLosses,
    fairness: FairShare,
    clocks: ClockWatch,
    idle_mode: IdleMode,
) -> Work:
    async def process(job: ReceivedJob, data: str) -> Decision:
        return await pipeline.process(job, data, channel) if await idle_mode.is_current() else GiveBack()

    def note_loss(job: ReceivedJob, data: str) -> Awaitable[None]:
        return losses.note(job, data, channel)

    base, policy = base_of(settings, channel), policy_of(settings, channel)
    concurrency = plan.concurrency[channel]
    return Work(
        *(base, concurrency, policy, process),
        *(fairness.aside, lambda: clocks.is_wrong),
        ahead=CHANNELS[channel].ahead(concurrency),
        drain_seconds=plan.drain_timeout.total_seconds(),
        note_loss=note_loss,
        on_mark=idle_mode.stir,
    )
