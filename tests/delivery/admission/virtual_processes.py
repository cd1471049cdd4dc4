"""Consumers of one queue in virtual time."""

import heapq
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from uuid import UUID

from mauntic_jobs.stores.bullmq.commands import Taken
from tests.delivery.admission.virtual_admission import VirtualAdmission


@dataclass
class Processes:
    """Consumers of one queue in virtual time, `slots` of them in all; a message takes `seconds`, up to twice as long.

    `judge` is told of each message its organization, its provider and when it is sent, and returns whether it is taken.
    Each is sent up to `jitter` seconds after its turn, the first ones by as many seconds more as `late` says. `started`
    are the times of all messages by organization. A refusal asks to be left alone for as many seconds as `asked` says.
    """

    queue: VirtualAdmission
    slots: int
    judge: Callable[[UUID, str, float], bool]
    limits: dict[UUID, str] = field(default_factory=dict)
    seconds: float = 0.05
    jitter: float = 0.005
    late: list[float] = field(default_factory=list)
    asked: Callable[[float], float] = lambda _: 0.0
    random: Random = field(default_factory=lambda: Random(0))
    started: dict[UUID, list[float]] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._free = self.slots
        self._wake = math.inf

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Do something at a time."""
        self._order += 1
        heapq.heappush(self._events, (when, self._order, act))

    def run(self, until: float) -> None:
        """Let time pass."""
        self.at(self.queue.now, self.fill)
        while self._events and self._events[0][0] <= until:
            when, _, act = heapq.heappop(self._events)
            self.queue.set_time(max(when, self.queue.now))
            act()
        self.queue.set_time(until)

    def fill(self) -> None:
        """Take as many messages as there are slots and turns."""
        while self._free > 0:
            taken, wait = self.queue.take()
            if taken is None:
                self._wake_at(self.queue.now + max(wait, 0.001))
                return
            assert taken.turn is not None
            self._start(taken, taken.turn.seconds)

    def _wake_at(self, when: float) -> None:
        # Each look tells the next one.
        if when < self._wake or self._wake <= self.queue.now:
            self._wake = when
            if when < math.inf:
                self.at(when, self.fill)

    def _start(self, taken: Taken, wait: float) -> None:
        # A job whose turn has not come takes no place.
        self._free -= wait == 0

        def send() -> None:
            self._free -= wait > 0
            self._send(taken)

        late = self.late.pop(0) if self.late else 0.0
        self.at(self.queue.now + wait + late + self.random.uniform(0, self.jitter), send)

    def _send(self, taken: Taken) -> None:
        assert taken.turn is not None
        organization = UUID(json.loads(taken.fields["data"])["organizationId"])
        self.started.setdefault(organization, []).append(self.queue.now)
        provider = taken.turn.provider or self.limits.get(organization, "p").partition(" ")[0].partition("@")[0]
        is_taken = self.judge(organization, provider, self.queue.now)

        def end() -> None:
            self._free += 1
            limits = self.limits.get(organization, "p")
            if is_taken:
                if taken.turn is not None and taken.turn.provider:
                    self.queue.report(provider, "accepted", organization, limits)
                self.queue.finish(taken.id)
                self.done.add(taken.id)
            else:
                is_limited = taken.turn is not None and taken.turn.provider
                what = "refused" if is_limited else "unlimited"
                self.queue.report(provider, what, organization, limits, self.asked(self.queue.now))
                self.queue.give_back(taken.id)
            self.fill()

        self.at(self.queue.now + self.random.uniform(self.seconds, 2 * self.seconds), end)
