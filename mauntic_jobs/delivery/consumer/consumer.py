"""Consumer of a BullMQ queue: takes many jobs at once, and settles each by the outcome of its message."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import uuid4

from mauntic_jobs.aio.background import keep_running
from mauntic_jobs.delivery import failpoints
from mauntic_jobs.delivery.consumer.attempts import Attempts
from mauntic_jobs.delivery.consumer.concurrency import ConcurrencyLimiter
from mauntic_jobs.delivery.consumer.drain import Drain
from mauntic_jobs.delivery.consumer.job_signal import JobSignal
from mauntic_jobs.delivery.consumer.lost_answers import LostAnswers
from mauntic_jobs.delivery.consumer.outage import Outage
from mauntic_jobs.delivery.consumer.queue_calls import LogOutage, QueueCalls, now_milliseconds
from mauntic_jobs.delivery.consumer.settlement import acknowledgement
from mauntic_jobs.delivery.consumer.stalls import Stalls
from mauntic_jobs.delivery.consumer.work import Work
from mauntic_jobs.delivery.job_outcome import Decision, Done, Fail, GiveBack, logged_reason, name_of
from mauntic_jobs.delivery.node_marks import SECONDS_KEPT
from mauntic_jobs.delivery.sending.failover import clean
from mauntic_jobs.delivery.stats import ChannelStats
from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.stores.bullmq import commands as scripts
from mauntic_jobs.stores.bullmq.commands import Taken, Turn, printable_id
from mauntic_jobs.stores.bullmq.job import ReceivedJob
from mauntic_jobs.stores.redis.async_link import RedisLink
from mauntic_jobs.telemetry.logs import bound

# Hears of each job that was not delivered.
Report = Callable[[str, str, str], None]

# A drain waits for what dead consumers held, and looks for it more often.
_RECOVERY_SECONDS, _DRAIN_RECOVERY_SECONDS = 30.0, 1.0
# How often it is looked how many jobs have others beside them.
_LOOK_SECONDS = 0.25
# A message is read, looked up and written so long before its turn.
_PREPARING_SECONDS = 0.025


class Consumer:
    """Works on one queue until it is stopped, or empty. Survives a Redis that goes away."""

    def __init__(
        self,
        work: Work,
        redis: RedisLink,
        waiting: RedisLink,
        stats: ChannelStats,
        log_outage: LogOutage,
        report: Report,
    ) -> None:
        self._work = work
        self._redis = redis
        self._stats = stats
        self._log_outage = log_outage
        self._report = report
        self._stopping = False
        self._signal = JobSignal(f"{work.base}:marker", redis, waiting, log_outage, self._on_mark)
        self._calls = QueueCalls(work.base, redis, log_outage)
        self._lost = LostAnswers(work.base, redis, self._calls)
        self._held: dict[str, str] = {}
        self._slots: set[asyncio.Task[None]] = set()
        self._limiter = ConcurrencyLimiter(work.concurrency, work.ahead)
        self._outage = Outage(log_outage)
        self._stalls = Stalls(self._calls)
        self._attempts = Attempts(work, self._calls, self._outage, self._stalls)
        self._drain = Drain(work.base, redis, work.drain_seconds)
        self._found_nothing = asyncio.Event()

    @property
    def left(self) -> list[str]:
        """What a drain has left on the queue, a sentence for each reason."""
        return self._drain.left.reasons if self._drain.left else []

    async def run(self, *, until_empty: bool = False) -> None:
        """Work until `stop` is called and what was taken is settled, or with `until_empty` until the drain is over."""
        interval = _DRAIN_RECOVERY_SECONDS if until_empty else _RECOVERY_SECONDS
        background: dict[str, Callable[[], Awaitable[None]]] = {
            "the wait for jobs": self._signal.listen,
            "the renewal of locks": lambda: self._calls.renew(lambda: self._held),
            "the return of orphaned jobs": lambda: self._lost.run(lambda: self._held),
            "the recovery of jobs": lambda: self._calls.recover(interval),
            **({"the end of the drain": self._empty} if until_empty else {}),
        }
        helpers = [
            asyncio.create_task(keep_running(f"{self._work.base}: {name}", work, self._log))
            for name, work in background.items()
        ]
        try:
            await self._work_in_slots()
        finally:
            for task in (*helpers, *self._slots):
                task.cancel()
            await asyncio.gather(*helpers, *self._slots, return_exceptions=True)
            self._signal.close()

    async def _work_in_slots(self) -> None:
        """Keep as many slots at work as there are to be at present."""
        while True:
            self._fill_slots()
            if not self._slots:
                return
            done, _ = await asyncio.wait(self._slots, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            self._slots -= done
            for task in done:
                task.result()
            self._limiter.widen(self._work.aside())

    def _fill_slots(self) -> None:
        for _ in range(0 if self._stopping else -self._surplus()):
            self._slots.add(asyncio.create_task(self._slot()))

    def _surplus(self) -> int:
        """Return how many slots there are too many; below zero, how many there are too few."""
        return len(self._slots) - self._limiter.most

    def _on_mark(self) -> None:
        # A slot that stops passes the marker on, which may come back to this very process.
        if not self._stopping:
            self._work.on_mark()

    def _log(self, text: str) -> None:
        self._log_outage(self._work.base, MaunticJobsError(text))

    def stop(self) -> None:
        """Take no further job."""
        self._stopping = True
        # Those that wait for either go away, with what they hold.
        self._signal.ring(len(self._slots))
        self._limiter.give_way()
        self._outage.end()

    async def hand_back(self) -> None:
        """Put back whatever is still held, after `run` has been cancelled."""
        calls = [scripts.give_back(self._work.base, token, job) for job, token in self._held.items()]
        for job in self._held:
            self._stalls.give_back(job)
        self._held = {}
        await asyncio.gather(*(self._calls.run(call) for call in calls))

    async def _slot(self) -> None:
        token = uuid4().hex
        taken: Taken | None = None
        while True:
            if taken is not None:
                with bound(queue=self._work.base):
                    taken = await self._survive(taken, token)
            elif self._stopping or self._surplus() > 0:
                # What woke this slot may be about a job that no other slot learns of.
                self._signal.pass_on()
                return
            else:
                if not await self._is_allowed():
                    continue
                rings = self._signal.rings
                taken = await self._fetch(token)
                if taken is not None:
                    # There may be more than one.
                    self._signal.ring(1)
                else:
                    self._found_nothing.set()
                    with self._lost.resting(token):
                        await self._signal.rest(rings)

    async def _is_allowed(self) -> bool:
        """Wait until jobs may be taken, or until it is this slot's turn to try whether the stores work again.

        Return False if no job is to be taken any more.
        """
        if self._work.is_held() or self._outage.is_on:
            # Another process may be able to take the job.
            self._signal.pass_on()
        while self._work.is_held() and not self._stopping:  # noqa: ASYNC110 - nothing rings when the clocks agree
            await asyncio.sleep(_LOOK_SECONDS)
        await self._outage.wait()
        return not self._stopping

    async def _empty(self) -> None:
        """Stop when the drain is over."""
        while not self._stopping:
            is_quiet = True
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._found_nothing.wait()
                    is_quiet = False
            self._found_nothing.clear()
            try:
                over = await self._drain.is_over(len(self._held), self._stats.done)
            except MaunticJobsError as error:
                self._log_outage("redis", error)
            else:
                if over:
                    self.stop()
                elif is_quiet and not self._held:
                    # A rate limit, or another's death, does not ring. A slot that has just looked need not look again.
                    self._signal.ring(1)

    async def _fetch(self, token: str) -> Taken | None:
        """Take a job as soon as Redis answers. An answer that cannot be read is reported, and none was taken."""
        try:
            answer = await self._calls.until_answered(lambda: self._take(token), unless=lambda: self._stopping)
            taken = self._taken(answer, token)
        except Exception as error:  # noqa: BLE001 - whatever it is, the slot goes on
            self._log_outage(self._work.base, error)
            return None
        self._log_outage(self._work.base, None)
        return taken

    async def _take(self, token: str) -> object:
        return await self._lost.watch(token, self._calls.run(scripts.take(self._work.base, token, now_milliseconds())))

    def _taken(self, answer: object, token: str) -> Taken | None:
        taken = scripts.taken(answer)
        if taken is None:
            due = scripts.next_due(answer, now_milliseconds())
            if due:
                self._signal.expect(due / 1000)
            return None
        self._held[taken.id] = token
        self._stalls.take(taken)
        self._stats.active = len(self._held)
        self._stats.moved = time.monotonic()
        return taken

    async def _survive(self, taken: Taken, token: str) -> Taken | None:
        """Handle a job, and fail it if that raises an error: a fault of one job costs that job, and no other."""
        try:
            return await self._handle(taken, token)
        except Exception as error:  # noqa: BLE001 - whatever it is, the slot goes on
            reason = clean(f"{type(error).__name__}: {error}")
        following = None
        try:
            following = self._taken(await self._settle(taken, None, Fail(reason), token), token)
        except Exception as error:  # noqa: BLE001 - its lock runs out, and it is taken again
            reason += clean(f"; it stays active until its lock runs out: {type(error).__name__}: {error}")
        self._release(taken, token)
        self._stats.settle("failed", 0.0)
        self._report("failed", printable_id(taken.id), reason)
        return following

    async def _handle(self, taken: Taken, token: str) -> Taken | None:
        """Do all there is to do for a job, and return the next one if there is one."""
        failpoints.reach("taken")
        if taken.fields.get("rjk") and (why := await self._calls.iterate(taken)):
            self._report("ended", printable_id(taken.id), clean(why))
        if taken.turn is not None and taken.turn.seconds > 0:
            await self._until_prepared(taken.turn)
        began = await self._limiter.enter()
        try:
            job, decision = await self._attempts.decide(taken, lambda: self._stopping)
        finally:
            self._limiter.leave(began)
        failpoints.reach("before-ack")
        answer = await self._settle(taken, job, decision, token)
        failpoints.reach("after-ack")
        self._release(taken, token)
        what = name_of(decision)
        self._stats.settle(what, time.monotonic() - began)
        if (reason := logged_reason(decision)) is not None:
            self._report(what, printable_id(taken.id), reason)
        return self._taken(answer, token)

    async def _until_prepared(self, turn: Turn) -> None:
        """Wait until a message is to be prepared: shortly before its turn where there is a place, else at its turn."""
        with self._limiter.early():
            # Another slot takes what may be sent before it.
            self._fill_slots()
            await self._limiter.await_turn(turn.seconds_left - _PREPARING_SECONDS)
            if not self._limiter.is_free:
                await self._limiter.await_turn(turn.seconds_left)

    def _release(self, taken: Taken, token: str) -> None:
        # A Redis that was rolled back may have handed it out again meanwhile.
        if self._held.get(taken.id) == token:
            del self._held[taken.id]
            self._stalls.release(taken.id)
        self._stats.active = len(self._held)

    async def _settle(self, taken: Taken, job: ReceivedJob | None, decision: Decision, token: str) -> object:
        """Acknowledge a job, again and again until it is; return the answer, which may bring the next job along."""
        more = not (self._stopping or self._work.is_held()) and self._surplus() <= 0
        stalls = self._stalls.counted(taken.id)
        call = acknowledgement(self._work.base, token, taken.id, job, decision, more=more, stalls=stalls)

        async def acknowledge() -> object:
            if isinstance(decision, Done) and decision.mark:
                self._redis.begin("SET", *decision.mark, "EX", SECONDS_KEPT)
            elif isinstance(decision, GiveBack):
                self._stalls.give_back(taken.id)
            return await self._lost.watch(token, self._calls.settle(taken.id, token, call))

        return await self._calls.until_answered(acknowledge, unless=lambda: False)
