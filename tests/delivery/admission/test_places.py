"""Organizations with slow providers: in virtual time, with the real scripts, the others and what waits lose no time."""

import heapq
import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest

from mauntic_jobs.delivery.pipeline.fair_share import FairShare
from mauntic_jobs.stores.bullmq.commands import Taken
from tests.delivery.admission.virtual_admission import VirtualAdmission

CONCURRENCY = 5
LOOK_SECONDS = 0.25
SLOW, FAST = uuid4(), uuid4()


@dataclass
class Process:
    """A consumer with its slots; `held` is how many jobs it has in hand."""

    fairness: FairShare
    held: int = 0


@dataclass
class Channel:
    """Processes of one queue; `seconds` is how long a message of an organization takes, at a time."""

    queue: VirtualAdmission
    seconds: Callable[[UUID, float], float]
    count: int = 1
    sent: dict[str, float] = field(default_factory=dict)
    given_back: int = 0

    def __post_init__(self) -> None:
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._processes = [Process(FairShare(CONCURRENCY, lambda: self.queue.now)) for _ in range(self.count)]

    def deliver(self, jobs: int, until: float = 1000.0) -> float:
        """Deliver so many jobs; return when the last of them was sent."""
        self._at(0.0, self._look)
        while len(self.sent) < jobs:
            when, _, act = heapq.heappop(self._events)
            assert when < until, f"{len(self.sent)} of {jobs} jobs are sent"
            self.queue.set_time(max(when, self.queue.now))
            act()
        return max(self.sent.values())

    def _at(self, seconds: float, act: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (self.queue.now + seconds, self._order, act))

    def _look(self) -> None:
        self._fill()
        self._at(LOOK_SECONDS, self._look)

    def _fill(self) -> None:
        # A process that is full leaves the job to the next one.
        for process in self._processes:
            while process.held < CONCURRENCY + process.fairness.aside():
                taken, _ = self.queue.take()
                if taken is None:
                    return
                self._start(process, taken)

    def _start(self, process: Process, taken: Taken) -> None:
        organization = UUID(json.loads(taken.fields["data"])["organizationId"])
        wait = process.fairness.admit(organization)
        if wait:
            assert taken.turn is not None
            self.given_back += 1
            self.queue.hold(taken.turn.lane, wait)
            self.queue.give_back(taken.id)
            return
        process.held += 1
        exchange = ExitStack()
        exchange.enter_context(process.fairness.sending(organization))

        def end() -> None:
            exchange.close()
            self.sent[taken.id] = self.queue.now
            if process.fairness.leave(organization):
                self.queue.free(organization)
            self.queue.finish(taken.id)
            process.held -= 1
            self._fill()

        self._at(self.seconds(organization, self.queue.now), end)


def test_an_organization_alone_loses_no_time_however_slow_its_provider_is(queue: VirtualAdmission) -> None:
    for _ in range(60):
        queue.add(SLOW)
    # 18 s are possible.
    assert Channel(queue, lambda *_: 1.5).deliver(60) <= 18.5


@pytest.mark.parametrize("processes", [1, 2])
def test_what_waits_goes_out_at_once_when_the_provider_is_well(queue: VirtualAdmission, processes: int) -> None:
    for _ in range(1000):
        queue.add(SLOW)
    channel = Channel(queue, lambda _, now: 3.0 if 0.5 < now < 20.5 else 0.02, processes)
    last = channel.deliver(1000)
    after = sum(at >= 20.5 for at in channel.sent.values())
    assert after > 300
    # The exchanges under way end up to 3 s later. Then 250 a second are possible for each process.
    assert last <= 20.5 + 3.0 + 1.2 * after / (250 * processes)


def test_another_organization_has_the_whole_concurrency_beside_a_slow_one(queue: VirtualAdmission) -> None:
    slow = {queue.add(SLOW) for _ in range(200)}
    for _ in range(1000):
        queue.add(FAST)
    channel = Channel(queue, lambda organization, _: 3.0 if organization == SLOW else 0.02)
    channel.deliver(1000)
    fast = [at for job, at in channel.sent.items() if job not in slow]
    # Until the slow messages are seen to be slow they have all the places; then 250 a second are possible.
    assert max(fast) <= 3.0 + 1.2 * 1000 / 250
    assert channel.given_back < 100


def test_a_slow_organization_has_all_places_once_the_others_are_gone(queue: VirtualAdmission) -> None:
    slow = {queue.add(SLOW) for _ in range(150)}
    for _ in range(300):
        queue.add(FAST)
    channel = Channel(queue, lambda organization, _: 3.0 if organization == SLOW else 0.02)
    last = channel.deliver(450)
    fast = max(at for job, at in channel.sent.items() if job not in slow)
    after = sum(at > fast + 62.0 for job, at in channel.sent.items() if job in slow)
    assert after > 50
    assert last <= fast + 62.0 + 1.1 * (after + CONCURRENCY) * 3.0 / CONCURRENCY


def test_messages_that_fail_at_once_do_not_keep_the_queue_busy(queue: VirtualAdmission) -> None:
    for _ in range(40):
        queue.add(SLOW)
    for _ in range(400):
        queue.add(FAST)
    channel = Channel(queue, lambda *_: 0.02)
    for process in channel._processes:
        process.fairness.admit(FAST)
        for _ in range(10):
            with process.fairness.sending(SLOW) as exchange:
                exchange.failed = True
    channel.deliver(440)
    assert channel.given_back < 100
