"""Signal that a job may be there: many slots rest, and one connection listens for all of them.

BullMQ's marker wakes one program. So a wake-up that no slot of this process can use goes on to the other processes.
"""

import asyncio
import math
from collections.abc import Callable

from mauntic_jobs.aio.backoff import Backoff
from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.stores.redis.async_link import RedisLink
from mauntic_jobs.timekeeping import clock

# How long a wake-up may go unheard that another process took, and then died.
_LONGEST_WAIT_SECONDS = 5.0
# The host's clock may be set while a slot waits for a time.
_SHORTEST_TIMER_SECONDS, _LONGEST_TIMER_SECONDS = 0.001, 60.0
# The score and the member by which BullMQ says that jobs wait.
_JOBS_WAIT = (0, "0")


class JobSignal:
    """BullMQ's marker of a queue, and the slots that wait for it.

    `listening` is a connection of its own, because it is blocked most of the time. `on_mark` is called when the marker
    says that a job may be there.
    """

    def __init__(
        self,
        marker: str,
        redis: RedisLink,
        listening: RedisLink,
        log_outage: Callable[[str, Exception | None], None],
        on_mark: Callable[[], None],
    ) -> None:
        self.rings = 0
        self._marker = marker
        self._redis = redis
        self._listening = listening
        self._log_outage = log_outage
        self._on_mark = on_mark
        self._resting: list[asyncio.Future[None]] = []
        self._wanted = asyncio.Event()
        self._due = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def ring(self, slots: int) -> None:
        """Wake so many slots, or the next that would rest."""
        self.rings += 1
        while slots and self._resting:
            future = self._resting.pop()
            if not future.done():
                future.set_result(None)
                slots -= 1

    def pass_on(self) -> None:
        """Wake a slot, or if none rests, a slot of another process."""
        if not self._resting:
            self._redis.begin("ZADD", self._marker, *_JOBS_WAIT)
        self.ring(1)

    def expect(self, due: float) -> None:
        """Wake a slot at `due`, in seconds since 1970: a delayed job is due then, or the queue's rate limit ends.

        The earliest time counts: it costs a look at the queue, and that look tells the next one.
        """
        if due < self._due:
            self._due = due
            self._set_timer()

    def close(self) -> None:
        """Expect nothing any more."""
        self._due = math.inf
        if self._timer is not None:
            self._timer.cancel()

    async def rest(self, rings: int) -> None:
        """Return when it has rung more often than `rings` times."""
        if self.rings != rings:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._resting.append(future)
        self._wanted.set()
        await future

    async def listen(self) -> None:
        """Ring whenever a job may be there, as long as a slot rests; never returns."""
        backoff = Backoff()
        while True:
            if not self._resting:
                self._wanted.clear()
                await self._wanted.wait()
            wait = _LONGEST_WAIT_SECONDS
            try:
                marked = await self._listening.command("BZPOPMIN", self._marker, f"{wait:.3f}", patience=wait)
            except MaunticJobsError as error:
                self._log_outage("redis", error)
                await backoff.pause()
                # The marker may have been taken, and its answer lost.
                self.pass_on()
                continue
            backoff.reset()
            self._log_outage("redis", None)
            due = float(marked[2]) / 1000 if marked else 0.0
            if due > clock.now().timestamp():
                self.expect(due)
            elif marked:
                self._on_mark()
                self.pass_on()
            else:
                self.ring(1)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        seconds = min(max(self._due - clock.now().timestamp(), _SHORTEST_TIMER_SECONDS), _LONGEST_TIMER_SECONDS)
        self._timer = asyncio.get_running_loop().call_later(seconds, self._strike)

    def _strike(self) -> None:
        if clock.now().timestamp() < self._due:
            self._set_timer()
            return
        self._due = math.inf
        self.pass_on()
