"""Calls to one BullMQ queue that outlast a Redis that is away."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cache

from mauntic_jobs.aio.backoff import Backoff
from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.lua import script
from mauntic_jobs.stores.bullmq import commands as scripts
from mauntic_jobs.stores.bullmq.commands import JOB_GONE, LOCK_GONE, LOCK_MILLISECONDS, ScriptCall, Taken
from mauntic_jobs.stores.bullmq.enqueue import official_script
from mauntic_jobs.stores.bullmq.iteration import next_iteration
from mauntic_jobs.stores.bullmq.stalls import COUNTERS as STALL_COUNTERS, FIELD as STALLS, is_accounted_for, stalls_of
from mauntic_jobs.stores.redis.async_link import RedisLink
from mauntic_jobs.timekeeping import clock

# Hears of trouble, by what it is with, and with None that it is over.
LogOutage = Callable[[str, Exception | None], None]

# Scripts that may take a job, and the place in ARGV of the word that tells them to, 0 if that is all that they do.
TAKING = {"moveToActive-11": 0, "moveToFinished-14": 6, "moveToDelayed-11": 8}
_RENEWAL_SECONDS = LOCK_MILLISECONDS / 3000


class QueueCalls:
    """The calls of a consumer. `base` is the queue's prefix and name."""

    def __init__(self, base: str, redis: RedisLink, log_outage: LogOutage) -> None:
        self._base = base
        self._redis = redis
        self._log_outage = log_outage
        # Read now: later there may be no file left to open.
        for name in scripts.SCRIPTS:
            consumer_script(name)
        script("forget_job")

    def run(self, call: ScriptCall) -> Awaitable[object]:
        """Make a call once, when what is returned is awaited; return its answer."""
        arguments = [*call.arguments, TAKING.get(call.script, 0), f"{self._base}:"]
        return self._redis.script(consumer_script(call.script), call.keys, arguments)

    async def settle(self, job: str, token: str, call: Callable[[int], ScriptCall]) -> object:
        """Make the call, of a time in milliseconds since 1970, that settles a job, though its lock has run out."""
        answer = await self.run(call(now_milliseconds()))
        if scripts.code(answer) == LOCK_GONE:
            await self._redis.command(*scripts.lock_again(self._base, token, job))
            answer = await self.run(call(now_milliseconds()))
        if scripts.code(answer) == JOB_GONE:
            await self._forget(job)
        return answer

    async def until_answered(self, call: Callable[[], Awaitable[object]], *, unless: Callable[[], bool]) -> object:
        """Make a call until Redis answers, or until it fails when it is not needed any more; then return None."""
        backoff = Backoff()
        while True:
            try:
                answer = await call()
            except MaunticJobsError as error:
                if unless():
                    return None
                self._log_outage("redis", error)
                await backoff.pause()
            else:
                self._log_outage("redis", None)
                return answer

    async def iterate(self, taken: Taken) -> str | None:
        """Add the job that follows one of a job scheduler, which BullMQ leaves to the consumer of the one before it.

        Return why a scheduler cannot be followed, or None. The job at hand is no worse for it.
        """
        try:
            following = next_iteration(taken, clock.now())
        except (MaunticJobsError, ValueError, OverflowError) as error:
            return f"the job scheduler ends here: {error}"
        if following is not None:
            at, options = following.at, following.options
            call = scripts.iterate(self._base, taken.id, following.scheduler, at, options, now_milliseconds())
            await self.until_answered(lambda: self.run(call), unless=lambda: False)
        return None

    async def restart_attempts(self, job: str) -> None:
        """Give a job all its attempts again, as `dlq retry` does."""
        words = ("HSET", f"{self._base}:{job}", "atm", 0, "retriedOn", now_milliseconds())
        await self.until_answered(lambda: self._redis.command(*words), unless=lambda: False)

    def begin_stalls(self, job: str, count: int) -> None:
        """Note how many stalls of a job are accounted for, without waiting for the answer."""
        self._redis.begin("HSET", f"{self._base}:{job}", STALLS, count)

    async def end_stalls(self, job: str) -> None:
        """Note that this program does not have a job any more, unless another program's stalls are not known yet."""
        names = (*STALL_COUNTERS, STALLS)
        values = await self._redis.command("HMGET", f"{self._base}:{job}", *names)
        fields = {name: value.decode() for name, value in zip(names, values, strict=True) if value is not None}
        stalls = stalls_of(fields)
        if is_accounted_for(fields, stalls):
            self.begin_stalls(job, stalls)

    async def account_for(self, job: str, count: int) -> None:
        """Note how many stalls of a job are accounted for. That it stalled too often for Node fails it no more."""
        key = f"{self._base}:{job}"
        await self._redis.command("HSET", key, STALLS, count)
        await self._redis.command("HDEL", key, "defa")

    async def renew(self, held: Callable[[], Mapping[str, str]]) -> None:
        """Renew the locks of the jobs that are held, by their ids with their tokens, until cancelled."""
        while True:
            await asyncio.sleep(_RENEWAL_SECONDS)
            await self._tolerantly(self.run(scripts.extend(self._base, token, job)) for job, token in held().items())

    async def recover(self, seconds: float) -> None:
        """Put back the jobs of dead consumers, once in so many seconds, until cancelled."""
        while True:
            await self._tolerantly([self.run(scripts.recover(self._base, now_milliseconds(), int(seconds * 1000)))])
            await asyncio.sleep(seconds * random.uniform(1.0, 1.1))  # noqa: S311 - to keep processes apart

    async def _tolerantly(self, calls: Iterable[Awaitable[object]]) -> None:
        """Make calls of which none matters by itself: they are made again anyhow."""
        for answer in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(answer, Exception):
                self._log_outage("redis", answer)

    async def _forget(self, job: str) -> None:
        """Let go of a job that another program has removed meanwhile."""
        keys = [f"{self._base}:{name}" for name in (job, "active", "stalled", f"{job}:lock")]
        await self._redis.script(script("forget_job"), keys, [job])


@cache
def consumer_script(name: str) -> bytes:
    """Return one of BullMQ's own scripts; one that may take a job takes the one whose turn it is.

    Its last arguments are those of `admission_take.lua`, which BullMQ's scripts do not look at.
    """
    text = official_script(name)
    if name not in TAKING:
        return text
    ours = b"".join(script(each) for each in ("admission", "admission_turns", "admission_take"))
    return b"local function bullmq()\n" + text + b"\nend\n" + ours


def now_milliseconds() -> int:
    """Return the time in milliseconds since 1970."""
    return int(clock.now().timestamp() * 1000)
