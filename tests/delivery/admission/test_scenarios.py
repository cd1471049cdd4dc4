"""Random scenarios in virtual time: never above a limit, never idle while something may go, no job lost or doubled."""

import json
import math
import os
from collections import Counter
from collections.abc import Callable
from random import Random
from uuid import UUID

import pytest

from tests.delivery.admission.virtual_admission import LOOKAHEAD, VirtualAdmission

# How many seeds are run, or `FIRST-LAST` for those of a longer run.
_FIRST, _, _LAST = os.environ.get("MAUNTIC_TEST_SCENARIOS", "25").rpartition("-")
SEEDS = range(int(_FIRST), int(_LAST) + 1) if _FIRST else range(int(_LAST))


class Scenario:
    """Jobs of a few organizations, some of them limited, with kills, lost keys and changes in between."""

    def __init__(self, queue: VirtualAdmission, random: Random) -> None:
        self.queue, self.random = queue, random
        # Of the seed, so that a scenario that fails does so again.
        self.organizations = [UUID(int=random.getrandbits(128)) for _ in range(random.randint(1, 6))]
        self.intervals: dict[UUID, float] = {}
        self.changed: dict[UUID, float] = {}
        self.starts: dict[UUID, list[float]] = {each: [] for each in self.organizations}
        self.paused: dict[UUID, float] = {}
        self.failing: dict[UUID, float] = {}
        self.without_place: dict[UUID, float] = {}
        self.last: dict[UUID, float] = {}
        self.open: set[str] = set()
        self.held: set[str] = set()
        for organization in self.organizations[::2]:
            self.limit(organization)

    def limit(self, organization: UUID) -> None:
        self.intervals[organization] = self.random.choice([0.02, 0.3, 2.0])
        self.changed[organization] = self.queue.now
        self.starts[organization] = []
        # A limit from now on: what was allowed before is no matter.
        self.queue.lose(f"limit:p{organization}")
        self.failing.pop(organization, None)
        self.queue.configure(organization, self.entry(organization))

    def entry(self, organization: UUID) -> str:
        interval = self.intervals.get(organization)
        return f"p{organization}" + (f"@{round(interval * 1_000_000)}:0" if interval else "")

    def run(self) -> None:
        steps: list[tuple[Callable[[], None], int]] = [
            *((self.add, 6), (self.take, 10), (self.settle, 6), (self.wait, 4), (self.lose, 1), (self.change, 1)),
            *((self.pause, 1), (self.fail, 1), (self.work, 1), (self.hold, 1), (self.free, 1), (self.weigh, 1)),
        ]
        acts, weights = zip(*steps, strict=True)
        for _ in range(120):
            self.random.choices(acts, weights)[0]()
            self.check()
        self.drain()

    def add(self) -> None:
        organization = self.random.choice(self.organizations)
        for _ in range(self.random.choice([1, 1, 5, 40])):
            urgent = self.random.random() < 0.3
            self.open.add(self.queue.add(organization, transactional=urgent, age=self.random.uniform(0, 60)))

    def take(self) -> None:
        taken, wait = self.queue.take()
        if taken is None:
            self.check_idle(wait)
            return
        assert taken.turn is not None
        assert taken.turn.seconds <= LOOKAHEAD
        organization = UUID(json.loads(taken.fields["data"])["organizationId"])
        assert taken.turn.lane == f"{0 if 'transactional' in taken.fields['data'] else 1} {organization}"
        self.held.add(taken.id)
        self.starts[organization].append(self.queue.now + taken.turn.seconds)
        self.last[organization] = self.starts[organization][-1]
        assert self.last[organization] >= self.paused.get(organization, 0) - 0.001
        assert self.last[organization] >= self.failing.get(organization, 0) - 0.001
        if organization in self.intervals and len(self.starts[organization]) > 1:
            before, last = self.starts[organization][-2:]
            assert last - before >= self.intervals[organization] - 0.001, organization

    def settle(self) -> None:
        if not self.held:
            return
        job = self.random.choice(sorted(self.held))
        self.held.discard(job)
        act = self.random.choice(["finish", "finish", "give back", "delay", "die"])
        if act == "finish":
            self.queue.finish(job)
            self.open.discard(job)
        elif act == "give back":
            self.queue.give_back(job)
        elif act == "delay":
            self.queue.delay(job, self.random.uniform(0.1, 3))
        else:
            self.queue.die(job)

    def wait(self) -> None:
        self.queue.set_time(self.queue.now + self.random.choice([0.001, 0.05, 0.4, 5]))

    def lose(self) -> None:
        self.queue.lose(
            self.random.choice(["names", "lanes", "ready0", "ready1", "where", "wake", "asleep:*", "v", "weights"])
        )
        self.queue.audit()

    def change(self) -> None:
        self.limit(self.random.choice(self.organizations))

    def pause(self) -> None:
        """Pause an organization, or end its pause."""
        organization = self.random.choice(self.organizations)
        self.paused[organization] = self.queue.now + self.random.choice([0, 0, 0.4, 3, 20])
        self.queue.restrict({str(each): (end, 0) for each, end in self.paused.items()})

    def fail(self) -> None:
        """Let the provider of an organization fail for a while."""
        organization, seconds = self.random.choice(self.organizations), self.random.choice([0.4, 3, 20])
        # One that was said to work at this very moment does not fail.
        if self.queue.leave_alone(f"p{organization}", seconds, organization, self.entry(organization)):
            self.failing[organization] = max(self.failing.get(organization, 0), self.queue.now + seconds)

    def weigh(self) -> None:
        """Give some organizations other weights, which change no limit and leave nothing idle."""
        some = self.random.sample(self.organizations, self.random.randint(0, len(self.organizations)))
        self.queue.weigh({each: self.random.choice([0.1, 0.5, 3, 10]) for each in some})

    def work(self) -> None:
        """Let it work again."""
        if self.failing:
            organization = self.random.choice(sorted(self.failing))
            self.failing[organization] = min(self.failing[organization], self.queue.now)
            self.queue.use_again(f"p{organization}")

    def hold(self) -> None:
        """Let an organization wait for a place."""
        organization, seconds = self.random.choice(self.organizations), self.random.choice([0.4, 3])
        self.without_place[organization] = max(
            self.without_place.get(organization, 0), self.queue.now + LOOKAHEAD + seconds
        )
        for place in (0, 1):
            self.queue.hold(f"{place} {organization}", seconds)

    def free(self) -> None:
        """Let places become free."""
        organization = self.random.choice(self.organizations)
        self.without_place.pop(organization, None)
        self.queue.free(organization)

    def check(self) -> None:
        places = Counter(self.queue.places())
        assert set(places) == self.open
        assert max(places.values(), default=1) == 1

    def after(self, organization: UUID, end: float) -> float:
        """Return when the next message may go out at the rate that rises after a pause or a failure, at the latest."""
        last = self.last[organization]
        # The rate is that of the moment at which the turn was given.
        seconds = math.floor(max(last - LOOKAHEAD, end) - end)
        return last + 1 / (20 * 2**seconds) if last >= end - 0.001 and seconds < 7 else 0.0

    def check_idle(self, wait: float) -> None:
        """Nothing was taken: whoever has jobs must be limited, and the wait must end when the first is not."""
        owners = [each for each in self.organizations if self.queue.waiting(each)]
        assert sum(self.queue.waiting(each) for each in owners) == len(self.queue.parked())
        free = []
        for organization in owners:
            held = (self.paused, self.failing, self.without_place)
            at = max(each.get(organization, 0.0) for each in held)
            if self.starts[organization] and organization in self.intervals:
                at = max(at, self.starts[organization][-1] + self.intervals[organization])
            ends = [each[organization] for each in (self.paused, self.failing) if organization in each]
            if organization in self.last:
                at = max([at, *(self.after(organization, end) for end in ends)])
            assert at > self.queue.now + LOOKAHEAD - 0.001, "an organization without a limit waits"
            free.append(at - LOOKAHEAD - self.queue.now)
        if free:
            assert wait <= min(free) + 0.002
        elif not self.without_place and not any(True for _ in self.queue.delayed()):
            # A lane that was judged anew before its time may be woken for nothing, once.
            assert wait == math.inf or self.queue.wakes()

    def drain(self) -> None:
        for _ in range(3000):
            for job in sorted(self.held):
                self.queue.finish(job)
                self.open.discard(job)
            self.held.clear()
            if not self.open:
                return
            taken, wait = self.queue.take()
            if taken is not None:
                self.held.add(taken.id)
            else:
                if wait == math.inf:
                    # What was lost of a lane without jobs is found once it has some, as each process looks.
                    self.queue.audit()
                    taken, wait = self.queue.take()
                    assert taken is not None or wait < math.inf, "jobs are left that nothing would bring back"
                    self.held |= {taken.id} if taken is not None else set()
                    continue
                self.queue.set_time(self.queue.now + max(wait, 0.001))
        raise AssertionError(f"{len(self.open)} jobs were never taken")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_scenario(queue: VirtualAdmission, seed: int) -> None:
    Scenario(queue, Random(seed)).run()
