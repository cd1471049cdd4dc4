"""BullMQ queue in memory and an event loop in virtual time: the real consumers run on both, each time the same way.

The queue does what BullMQ's scripts do to the lists, the marker and the rate limit; each command takes a little while
to arrive and a little while to be answered, so that commands of two connections overtake each other.
"""

import asyncio
import heapq
import json
import math
import selectors
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from mauntic_jobs.delivery.consumer.queue_calls import consumer_script
from mauntic_jobs.stores.bullmq import commands as scripts

EPOCH = datetime(2026, 10, 1, tzinfo=UTC)
_SLOWEST_SECONDS = 0.004


class _NoSelector(selectors.SelectSelector):
    """Waits for nothing: what it is asked to wait for has passed at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("no task can ever go on")
        self.now += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Event loop whose time passes as soon as nothing is left to be done."""

    def __init__(self) -> None:
        self._own = _NoSelector()
        super().__init__(self._own)

    def time(self) -> float:
        return self._own.now

    def now(self) -> datetime:
        """Return the wall clock's time."""
        return EPOCH + timedelta(seconds=self.time())


class VirtualQueue:
    """The lists of one queue; times are seconds of the loop."""

    def __init__(self, loop: VirtualLoop, random: Random) -> None:
        self.wait: deque[str] = deque()
        self.active: list[str] = []
        self.delayed: list[tuple[float, str]] = []
        self.done: list[str] = []
        self.most_each: tuple[int, float] | None = None
        self._limited: tuple[float, int] = (-math.inf, 0)
        self._refused_until = -math.inf
        self._marker: dict[str, float] = {}
        self._blocked: deque[asyncio.Future[tuple[str, float]]] = deque()
        self._loop = loop
        self._random = random
        self._names = {consumer_script(name): name for name in scripts.SCRIPTS}

    @property
    def is_limited(self) -> bool:
        """Whether the rate limit lets no job be taken now."""
        until, taken = self._limited
        return self.most_each is not None and until > self._loop.time() and taken >= self.most_each[0]

    @property
    def due(self) -> int:
        """How many jobs may be taken now, by a consumer that believes what it was told of the rate limit."""
        now = self._loop.time()
        due = sum(at <= now for at, _ in self.delayed)
        return 0 if self.is_limited or now < self._refused_until else len(self.wait) + due

    def add(self, name: str, delay: float = 0.0) -> None:
        """Add a job."""
        if delay:
            self._delay(name, self._loop.time() + delay)
        else:
            self.wait.append(name)
            self._mark("0", 0.0)

    async def pause(self) -> None:
        """Let a command or its answer be under way."""
        await asyncio.sleep(self._random.uniform(0, _SLOWEST_SECONDS))

    async def pop_marker(self, seconds: float) -> list[Any] | None:
        """Answer as BZPOPMIN does: the client that has waited longest is served first."""
        future: asyncio.Future[tuple[str, float]] = self._loop.create_future()
        self._blocked.append(future)
        self._serve()
        try:
            async with asyncio.timeout(seconds):
                member, score = await future
        except TimeoutError:
            return None
        return [b"marker", member.encode(), str(score).encode()]

    def call(self, text: bytes, arguments: Sequence[Any]) -> Any:
        """Do what a script does."""
        name = self._names[text]
        if name.startswith("moveToActive"):
            return self._take()
        if name.startswith("moveToFinished"):
            self.active.remove(arguments[0])
            self.done.append(arguments[0])
            return self._take() if arguments[5] == "1" else 0
        if name.startswith("moveToDelayed"):
            self.active.remove(arguments[2])
            self._delay(arguments[2], (arguments[1] + arguments[4]) / 1000 - EPOCH.timestamp())
            return self._take() if arguments[7] == "1" else 0
        if name.startswith("moveJobFromActiveToWait"):
            self.active.remove(arguments[0])
            self.wait.appendleft(arguments[0])
            self._mark("0", 0.0)
        return 0

    def mark(self) -> None:
        """Say that jobs wait, by the command ZADD."""
        self._mark("0", 0.0)

    def _take(self) -> list[Any]:
        now = self._loop.time()
        while self.delayed and self.delayed[0][0] <= now:
            self.wait.append(heapq.heappop(self.delayed)[1])
            self._mark("0", 0.0)
        if self.is_limited:
            self._refused_until = self._limited[0]
            return [0, 0, math.ceil((self._limited[0] - now) * 1000), 0]
        if not self.wait:
            return [0, 0, 0, self._milliseconds(self.delayed[0][0]) if self.delayed else 0]
        name = self.wait.popleft()
        self.active.append(name)
        self._count(now)
        self._mark("0", 0.0)
        fields = {"name": "send-email", "data": "{}", "opts": json.dumps({}), "timestamp": "0"}
        return [[word.encode() for pair in fields.items() for word in pair], name.encode(), 0, 0]

    def _count(self, now: float) -> None:
        if self.most_each is not None:
            until, taken = self._limited
            self._limited = (until, taken + 1) if until > now else (now + self.most_each[1], 1)

    def _delay(self, name: str, due: float) -> None:
        heapq.heappush(self.delayed, (due, name))
        self._mark("1", float(self._milliseconds(self.delayed[0][0])))

    def _milliseconds(self, at: float) -> int:
        return round((EPOCH.timestamp() + at) * 1000)

    def _mark(self, member: str, score: float) -> None:
        self._marker[member] = score
        self._serve()

    def _serve(self) -> None:
        while self._marker and self._blocked:
            future = self._blocked.popleft()
            if not future.done():
                member = min(self._marker, key=lambda each: (self._marker[each], each))
                future.set_result((member, self._marker.pop(member)))


class VirtualLink:
    """Connection to the queue, as a consumer uses it: its commands arrive in their order, and so do the answers."""

    def __init__(self, queue: VirtualQueue) -> None:
        self._queue = queue
        self._turn = asyncio.Lock()

    async def command(self, *words: Any, patience: float = 0.0) -> Any:
        if words[0] == "BZPOPMIN":
            await self._queue.pause()
            popped = await self._queue.pop_marker(patience)
            await self._queue.pause()
            return popped
        return await self._ask(self._queue.mark if words[0] == "ZADD" else lambda: None)

    def begin(self, *words: Any) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self.command(*words))

    async def script(self, text: bytes, _keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        return await self._ask(lambda: self._queue.call(text, arguments))

    async def _ask(self, act: Any) -> Any:
        async with self._turn:
            await self._queue.pause()
            answer = act()
        await self._queue.pause()
        return answer
