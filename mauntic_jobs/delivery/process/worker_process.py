"""One process that delivers: its consumers, and what it does beside them."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

from mauntic_jobs.aio.background import keep_running
from mauntic_jobs.aio.idle_mode import IdleMode
from mauntic_jobs.delivery.consumer.consumer import Report
from mauntic_jobs.delivery.consumer.outage_log import OutageLog
from mauntic_jobs.delivery.process.redis_watch import watch_redis
from mauntic_jobs.delivery.process.wiring import DeliveryParts, DeliveryPlan, connected
from mauntic_jobs.delivery.queues import base_of, lengths
from mauntic_jobs.delivery.stats import ChannelStats
from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.telemetry.logs import bound

_SWEEP_SECONDS = 30.0
_MEASURE_SECONDS = 2.0
# What is left to jobs whose exchange was ended, to record what became of them.
_LAST_SECONDS = 3.0


@dataclass
class WorkerProcess:
    """Delivers until `stop` is called. `stats` are by channel, and kept up to date while `run` runs.

    `left` says whether a drain has left jobs on a queue.
    """

    settings: Settings
    plan: DeliveryPlan
    log: Callable[[str], None]
    report: Report
    stats: dict[str, ChannelStats] = field(default_factory=dict)
    ready: bool = False
    stopping: bool = False
    left: bool = False

    def __post_init__(self) -> None:
        """Begin with no numbers."""
        self.stats = {name: ChannelStats() for name in self.plan.concurrency}
        self._stop = asyncio.Event()
        self._is_connected = False
        self._idle_mode: IdleMode | None = None
        self._outages = OutageLog(self.log)

    @property
    def trouble(self) -> str | None:
        """What is in the way of the whole process, such as a store that is away."""
        return self._outages.current

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to deliver, and Postgres is left alone."""
        return self._idle_mode is not None and self._idle_mode.is_on

    def stop(self) -> None:
        """Take no further job; for the event loop's thread."""
        self.stopping = True
        self._stop.set()

    async def run(self) -> None:
        """Deliver until `stop` or until the queues are empty.

        Raises MaunticJobsError if Postgres or Redis cannot be reached at the beginning.
        """
        running, stopped = asyncio.ensure_future(self._run()), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
            # What is not connected has nothing in hand.
            if self._is_connected or running.done():
                await running
        finally:
            for task in (running, stopped):
                task.cancel()
            await asyncio.gather(running, stopped, return_exceptions=True)

    async def _run(self) -> None:
        async with connected(self.settings, self.plan, self.stats, self._outages.note, self.log, self.report) as parts:
            self.ready = self._is_connected = True
            idle = self._idle_mode = parts.idle_mode
            background = {
                "the sweep of leases": lambda: self._sweep(parts),
                "the watch of the clocks": lambda: parts.clocks.run(idle),
                "the look at paused providers": lambda: parts.pauses.run(idle.until_awake),
                "the look at restrictions": lambda: parts.restrictions.run(idle.until_awake),
                "the look at accounts of providers": lambda: parts.accounts.run(idle.until_awake),
                "the sweep of idle connections": parts.idle.sweep,
                "the look at the queues": lambda: self._measure(parts),
                "the watch for a loss of Redis' data": lambda: watch_redis(self.settings, self.log, idle),
            }
            background |= {f"the look at parked jobs {n}": each.run for n, each in enumerate(parts.admissions)}
            beside = [asyncio.create_task(keep_running(name, work, self.log)) for name, work in background.items()]
            working = asyncio.ensure_future(self._work(parts))
            stopped = asyncio.create_task(self._stop.wait())
            try:
                await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
                self.ready = False
                if not working.done():
                    await self._drain(working, parts)
                if not working.cancelled():
                    await working
            finally:
                for task in (*beside, stopped, working):
                    task.cancel()
                await asyncio.gather(*beside, stopped, working, return_exceptions=True)
                await self._hand_back(parts)
                if not idle.is_on:
                    with contextlib.suppress(MaunticJobsError, TimeoutError):
                        async with asyncio.timeout(_LAST_SECONDS):
                            await parts.pauses.look()
            for channel, consumer in zip(self.stats, parts.consumers, strict=True):
                for reason in consumer.left:
                    self.left = True
                    self.log(f"{channel}: {reason}")

    async def _work(self, parts: DeliveryParts) -> None:
        await asyncio.gather(*(each.run(until_empty=self.plan.until_empty) for each in parts.consumers))

    async def _drain(self, working: asyncio.Future[None], parts: DeliveryParts) -> None:
        """Let what is in flight end, within the time there is."""
        for consumer in parts.consumers:
            consumer.stop()
        await asyncio.wait({working}, timeout=self.plan.drain_timeout.total_seconds())
        if working.done():
            return
        parts.pipeline.stop()
        parts.directory.abort()
        await asyncio.wait({working}, timeout=_LAST_SECONDS)
        if not working.done():
            working.cancel()
            await asyncio.wait({working})

    async def _hand_back(self, parts: DeliveryParts) -> None:
        left = sum(stats.active for stats in self.stats.values())
        if not left:
            return
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                await asyncio.gather(*(consumer.hand_back() for consumer in parts.consumers))
        except (MaunticJobsError, TimeoutError):
            self.log(f"jobs that could not be handed back, and wait until their locks have run out: {left}")
        else:
            self.log(f"jobs handed back to the queue: {left}")

    async def _sweep(self, parts: DeliveryParts) -> None:
        """Name what was being sent by processes that died or lost Postgres, and settle what is known of since."""
        while True:
            await parts.idle_mode.until_awake()
            try:
                for row in await parts.ledger.end_leases():
                    fate = "a human must decide" if row["held"] else "it is sent again unless the platform hears of it"
                    with bound(organization=str(row["organization_id"])):
                        reason = f"its process died or was cut off while it was being sent: {fate}"
                        self.report("ambiguous", row["delivery_id"], reason)
                await parts.ledger.weigh_evidence()
                # Asked only where the idle mode could begin before the next sweep.
                if parts.idle_mode.idle_seconds > _SWEEP_SECONDS and await parts.ledger.is_uncertain():
                    parts.idle_mode.stir()
            except MaunticJobsError as error:
                self._outages.note("postgres", error)
            else:
                self._outages.note("postgres", None)
            await asyncio.sleep(_SWEEP_SECONDS)

    async def _measure(self, parts: DeliveryParts) -> None:
        began: float | None = None
        while True:
            began = self._end_of_drain(began)
            for name, stats in self.stats.items():
                stats.trouble = self.trouble
                if stats.active:
                    parts.idle_mode.stir()
                with contextlib.suppress(MaunticJobsError):  # the consumers tell
                    stats.queue = await lengths(parts.redis, base_of(self.settings, name))
                    if stats.queue["waiting"] or stats.queue["prioritized"]:
                        # What a pause holds back, another's command may let go.
                        parts.idle_mode.stir()
            await asyncio.sleep(_MEASURE_SECONDS)

    def _end_of_drain(self, began: float | None) -> float | None:
        """Stop a drain that a store has kept from going on for too long; return since when it does."""
        now = asyncio.get_running_loop().time()
        if self.trouble is None or not self.plan.until_empty or self.stopping:
            return None
        if began is not None and now - began > self.plan.drain_timeout.total_seconds():
            self.left = True
            self.log(f"the drain ends, and leaves what there is: {self.trouble}")
            self.stop()
        return now if began is None else began
