"""Pipeline of a message, from its job to the outcome of that job."""

import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from mauntic_jobs.delivery import failpoints
from mauntic_jobs.delivery.admission.admission import Admission, Admitted
from mauntic_jobs.delivery.admission.restrictions import Restrictions
from mauntic_jobs.delivery.job_outcome import Decision, GiveBack, Retry
from mauntic_jobs.delivery.ledger.ledger import Ledger
from mauntic_jobs.delivery.ledger.records import Claim, Claimed, State
from mauntic_jobs.delivery.ledger.waits import Wait
from mauntic_jobs.delivery.node_marks import SECONDS_KEPT, Mark, key_of, read_mark
from mauntic_jobs.delivery.payload import read_message
from mauntic_jobs.delivery.pipeline.conclusion import jittered, obstacle
from mauntic_jobs.delivery.pipeline.exchange_places import ExchangePlaces
from mauntic_jobs.delivery.pipeline.expiry import Expiry
from mauntic_jobs.delivery.pipeline.fair_share import FairShare
from mauntic_jobs.delivery.pipeline.frequency_caps import FrequencyCaps
from mauntic_jobs.delivery.pipeline.holding_back import HoldingBack
from mauntic_jobs.delivery.pipeline.manual_retries import ManualRetries
from mauntic_jobs.delivery.pipeline.order import Order
from mauntic_jobs.delivery.pipeline.quiet_hours import QuietTimes
from mauntic_jobs.delivery.pipeline.recorder import OutcomeRecorder
from mauntic_jobs.delivery.render.lookups import Lookups
from mauntic_jobs.delivery.render.recipient_guard import REASON as NOT_ALLOWED, RecipientGuard
from mauntic_jobs.delivery.render.renderer import AnyDraft, AnyRenderer
from mauntic_jobs.delivery.sending.failover import Sending, Sent, clean
from mauntic_jobs.delivery.sending.outcome import Verdict
from mauntic_jobs.delivery.sending.providers.base import AnyProvider
from mauntic_jobs.delivery.sending.providers.config import ProviderConfig
from mauntic_jobs.delivery.sending.providers.pool import Chosen, ProviderPool
from mauntic_jobs.errors import JobFailedError, MaunticJobsError
from mauntic_jobs.settings.types import MessageLimits
from mauntic_jobs.stores.bullmq.job import ReceivedJob
from mauntic_jobs.stores.redis.async_link import RedisLink
from mauntic_jobs.telemetry.logs import bind
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import Unit
from mauntic_jobs.warmup.quota import Allowance, Warmup, allowance_of

_NO_PROVIDER_SECONDS, _WARMUP_JITTER_SECONDS = 300.0, 1800.0
_FAILURES = (Verdict.TEMPORARY, Verdict.PROVIDER, Verdict.UNKNOWN)
_UNSENT = (Verdict.TEMPORARY, Verdict.DEFERRED, Verdict.PERMANENT, Verdict.RATE_LIMITED, Verdict.PROVIDER)


class Pipeline:
    """Delivers messages."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        lookups: Lookups,
        directory: ProviderPool,
        warmup: Warmup,
        sending: Sending,
        redis: RedisLink,
        writers: Mapping[str, AnyRenderer],
        fairness: Mapping[str, FairShare],
        max_age: timedelta,
        limits: MessageLimits,
        admissions: Mapping[str, Admission],
        guard: RecipientGuard,
        restrictions: Restrictions,
        quiet_times: QuietTimes,
        caps: FrequencyCaps,
    ) -> None:
        self._ledger = ledger
        self._recorder = OutcomeRecorder(ledger)
        self._lookups = lookups
        self._directory = directory
        self._warmup = warmup
        self._sending = sending
        self._redis = redis
        self._manual_retries = ManualRetries(ledger, redis)
        self._writers = writers
        self._fairness = fairness
        self._places = {channel: ExchangePlaces(each) for channel, each in fairness.items()}
        self._limits = limits
        self._admissions = admissions
        self._guard = guard
        self._holding = HoldingBack(restrictions, sending)
        self._expiry = Expiry(ledger, self._recorder, restrictions, max_age)
        self._quiet_times = quiet_times
        self._caps = caps

    def stop(self) -> None:
        """Give back from now on what has not been sent."""
        self._recorder.is_stopping = True

    async def process(self, job: ReceivedJob, data: str, channel: str) -> Decision:
        """Return what is to become of a job with this data, taken from the queue of a channel.

        Raises MalformedError for data that is no message, and MaunticJobsError where a store is away: nothing was sent.
        """
        message, name, payload = read_message(data, channel, self._limits)
        admitted = None
        if job.turn is not None and name == channel:
            admitted = Admitted(self._admissions[channel], job, job.turn, message)
        fairness, places = self._fairness[channel], self._places[channel]
        order = Order(job, message, name, payload, fairness, places, admitted=admitted)
        try:
            return await self._in_turn(order, self._admissions[channel])
        finally:
            if admitted is not None:
                await admitted.release()

    async def _in_turn(self, order: Order, admission: Admission) -> Decision:
        job, organization = order.job, order.message.organization_id
        bind(organization=order.message.organization, delivery=order.message.key)
        if (held := await self._holding.decide(order)) is not None:
            return held
        if job.retried_by_hand and (decision := await self._manual_retries.reopen(order)) is not None:
            return decision
        chosen = await self._directory.providers(organization, order.channel)
        wait = order.fairness.admit(organization, chosen.places)
        if wait:
            return await self._holding.until_place(order, wait)
        try:
            return await self._process(order, chosen)
        finally:
            if order.fairness.leave(organization):
                with suppress(MaunticJobsError):  # they have their turns a moment later
                    await admission.free(organization)

    async def _process(self, order: Order, chosen: Chosen) -> Decision:
        # Asked for at once, and needed only when there is something to send.
        asked = self._redis.begin("GET", key_of(order.message.key))
        age = await self._expiry.age_of_old(order, clock.now())
        if age is not None and await asked is None and (decision := await self._expiry.decide(order, age)) is not None:
            return decision
        if await self._holding.is_misplaced(order, chosen):
            return GiveBack()
        draft, problem = await self._draft(order, chosen)
        mark = read_mark(await asked, order.message.organization_id)
        if mark is Mark.OWED:
            order = replace(order, given_up_elsewhere=True)
        elif mark is not Mark.NONE:
            decision = await self._follow(mark, order)
            if decision is not None:
                return decision
        if problem:
            return await self._recorder.close(order, State.FAILED, problem)
        if draft is None:
            reason = clean("; ".join(chosen.problems)) or f"the organization has no active provider for {order.channel}"
            return await self._recorder.close(order, State.DEFERRED, reason, wait=jittered(_NO_PROVIDER_SECONDS))
        return await self._deliver(order, draft, chosen)

    async def _draft(self, order: Order, chosen: Chosen) -> tuple[AnyDraft | None, str]:
        """Return what is to be sent, None without a provider, and why the message never can be, if it cannot."""
        if not chosen.usable:
            return None, ""
        sender = next((each.sender for each in chosen.usable if each.sender), None)
        try:
            return await self._writers[order.channel].write(order.message, sender), ""
        except JobFailedError as error:
            return None, clean(str(error))

    async def _follow(self, mark: Mark, order: Order) -> Decision | None:
        """Record what a mark says. None if it is this engine's, and the ledger knows better."""
        match mark:
            case Mark.SENT:
                return await self._recorder.close(order, State.SENT, "the Node engine has sent it", elsewhere=True)
            case Mark.SUPPRESSED:
                # It counts only some of those that it suppresses: its event tells.
                order = replace(order, given_up_elsewhere=True)
                return await self._recorder.close(order, State.SUPPRESSED, "the Node engine has suppressed it")
            case Mark.OWN:
                claimed = await self._ledger.claim(Claim(order.message, order.channel, order.job.id))
                if not claimed.granted:
                    return await self._recorder.standing(order, claimed)
                if claimed.fence > 1 and not claimed.possible_duplicate:
                    return None
                # The process died before its result, or a Postgres that was restored has lost the row and its counts.
                return await self._recorder.record(
                    order, claimed.fence, State.SENT, "its mark in Redis says that it was sent"
                )
            case _:
                reason = f"{key_of(order.message.key)} in Redis has a value that the Node engine does not write"
                return await self._recorder.close(order, State.AMBIGUOUS, reason, hold=True)

    async def _deliver(self, order: Order, written: AnyDraft, chosen: Chosen) -> Decision:
        draft = self._guard.passed(written)
        if draft is None:
            return await self._recorder.close(order, State.SUPPRESSED, NOT_ALLOWED)
        organization = order.message.organization_id
        candidates = self._holding.open_providers(order, chosen)
        if not candidates:
            return self._holding.later(order, "all its providers are paused")
        providers = self._sending.usable(organization, candidates)
        if not providers:
            if (held := await self._holding.until_provider_works(order, chosen)) is not None:
                return held
            wait = jittered(self._sending.wait(organization, chosen.usable))
            problem = self._sending.problem(organization, chosen.usable)
            return await self._recorder.close(order, State.DEFERRED, problem, wait=wait)
        if (withheld := await self._withheld(order)) is not None:
            return withheld
        allowance = await self._allowance(draft, order)
        if order.admitted is not None:
            # As late as possible: messages arrive as evenly as they are sent. Not after the claim, from which on it is
            # uncertain what a process that is killed has sent.
            await order.admitted.until_turn()
        return await self._attempt(order, draft, chosen, providers, allowance)

    async def _withheld(self, order: Order) -> Decision | None:
        """Return what becomes of marketing that its contact is not to get, or not now; None for what it may get."""
        if (quiet := await self._quiet_times.wait_of(order.message, order.channel, clock.now())) is not None:
            seconds, reason = quiet
            return await self._recorder.close(order, State.DEFERRED, reason, wait=seconds)
        if (excess := await self._caps.excess(order.message, order.channel)) is not None:
            return await self._recorder.close(order, State.SUPPRESSED, excess)
        return None

    async def _attempt(
        self,
        order: Order,
        draft: AnyDraft,
        chosen: Chosen,
        providers: Sequence[AnyProvider],
        allowance: Allowance | None,
    ) -> Decision:
        """Claim the delivery and send it."""
        if self._recorder.is_stopping:
            return GiveBack()
        asked = time.monotonic()
        failpoints.reach("before-claim")
        claimed = await self._ledger.claim(_claim(order, draft, providers[0].config, allowance))
        failpoints.reach("after-claim")
        if not claimed.granted:
            return await self._recorder.standing(order, claimed)
        if claimed.over and allowance:
            return await self._until_tomorrow(order, claimed, allowance)
        content = self._writers[order.channel].signed(draft, claimed.message_id)
        await order.places.enter(order.message.organization_id)
        try:
            decision, sent = await self._exchange(order, providers, content, claimed, asked)
        finally:
            order.places.leave()
        # Its result came first: these are for the next messages, and for the platform to read.
        if sent is not None and order.admitted is not None:
            with suppress(MaunticJobsError):
                await order.admitted.learn(chosen, sent)
        if sent is not None and allowance and sent.outcome.verdict not in _UNSENT:
            with suppress(MaunticJobsError):
                await self._warmup.count(allowance)
        return decision

    async def _exchange(
        self, order: Order, providers: Sequence[AnyProvider], content: object, claimed: Claimed, asked: float
    ) -> tuple[Decision, Sent | None]:
        """Hand a message to its providers, unless that is not to be any more, and record what came of it."""
        problem = obstacle(claimed, asked, is_stopping=self._recorder.is_stopping)
        if problem is not None:
            decision = await self._recorder.record(order, claimed.fence, *problem)
            # Nothing was tried, which spends no attempt.
            return GiveBack() if isinstance(decision, Retry) else decision, None
        organization = order.message.organization_id
        if order.admitted is not None:
            order.admitted.is_used = True
        with order.fairness.sending(organization) as exchange:
            sent = await self._sending.send(organization, order.channel, providers, content)
            exchange.failed = sent.outcome.verdict in _FAILURES
        # Before the result: should this process die after that, the Node engine must not send it again.
        is_accepted = sent.outcome.verdict is Verdict.ACCEPTED
        marked = self._redis.begin("SET", *order.mark, "EX", SECONDS_KEPT) if is_accepted else None
        failpoints.reach("after-send")
        return await self._recorder.conclude(order, claimed, sent, marked), sent

    async def _until_tomorrow(self, order: Order, claimed: Claimed, allowance: Allowance) -> Decision:
        now = clock.now()
        tomorrow = Unit.DAY.after(Unit.DAY.floor(now))
        wait = (tomorrow - now).total_seconds() + random.uniform(1, _WARMUP_JITTER_SECONDS)  # noqa: S311 - to spread
        reason = f"{Wait.WARM_UP}: {allowance.domain} has sent its {allowance.most:,} messages of the day"
        return await self._recorder.record(order, claimed.fence, State.DEFERRED, reason, wait=wait)

    async def _allowance(self, draft: AnyDraft, order: Order) -> Allowance | None:
        """Return how many messages the sending domain may send today, or None for no limit."""
        organization = order.message.organization_id
        began = await self._lookups.warmup_began(organization, draft.domain) if draft.domain else None
        if began is None or draft.domain is None:
            return None
        return allowance_of(organization, draft.domain, began, clock.now())


def _claim(order: Order, draft: AnyDraft, first: ProviderConfig, allowance: Allowance | None) -> Claim:
    """Return the claim to send a message, over the provider that is tried first."""
    return Claim(
        *(order.message, order.channel, order.job.id, draft.address, draft.written),
        *(first.id, first.name, draft.message_id),
        ready=True,
        unknown_fields=draft.unknown_fields,
        allowance=allowance,
    )
