"""Fair shares of a channel: an organization with a slow or failing provider does not hold up the others."""

import random
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

# A message that is at a provider for longer is slow.
_SLOW_SECONDS = 1.0
# An organization is in trouble when so many of its messages are slow or fail: of those at its provider now, or of the
# latest, of which each counts for a quarter of what is remembered.
_MOST_BAD, _MEMORY = 0.5, 4
# What an organization in trouble may have in hand while others have messages: a fifth of the concurrency.
_SHARE = 5
# How long at least each of its messages takes its place: one that fails at once would be followed by the next at once.
_PACE_SECONDS = 0.25
_OTHERS_SECONDS = 60.0
# Turns of an organization alone come more often than its places get free: a turn that finds no free place is lost.
_TURNS_A_PLACE = 4
_SHORTEST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 300.0
_MOST_KEPT = 10_000
# How many jobs are called back at once, and how many are known to have been put aside: about 150 bytes each.
_MOST_CALLED, _MOST_PUT_ASIDE = 500, 100_000
# A job that was called and has not come by then was taken by another process.
_COMING_SECONDS = 1.0


@dataclass(slots=True, eq=False)
class Exchange:
    """A message at a provider. `failed` is to be set if the provider has not taken it, through no fault of its own."""

    began: float
    failed: bool = False


@dataclass(slots=True)
class _Lane:
    """One organization: how many messages are in hand, which are at a provider, and its place in line."""

    busy: int = 0
    exchanges: dict[Exchange, None] = field(default_factory=dict)
    seconds: float = _SLOW_SECONDS
    bad: float = 0.0
    free_at: float = 0.0
    next_turn: float = 0.0
    # Jobs that wait for a place, with the milliseconds since 1970 at which they come anyhow; how many of them were
    # called and have not come yet, and when the last one was called.
    aside: OrderedDict[str, int] = field(default_factory=OrderedDict)
    called: int = 0
    called_at: float = 0.0

    def is_in_trouble(self, now: float) -> bool:
        slow = self.slow(now)
        return self.bad > _MOST_BAD or (slow > 0 and slow >= len(self.exchanges) * _MOST_BAD)

    def slow(self, now: float) -> int:
        return sum(now - each.began > _SLOW_SECONDS for each in self.exchanges)


class FairShare:
    """Says whose turn it is. `concurrency` is how many messages of the channel are worked on at once."""

    def __init__(self, concurrency: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._concurrency = concurrency
        self._clock = clock
        self._lanes: dict[UUID, _Lane] = {}
        # By organization, the one that came last at the end.
        self._seen: dict[UUID, float] = {}
        self._put_aside = 0
        self._with_aside: dict[UUID, _Lane] = {}

    def admit(self, organization: UUID) -> float:
        """Take a message in hand, which `leave` must follow, and return 0; or return for how many seconds it waits.

        Those that wait are given turns one after the other, as fast as the organization gets on.
        """
        now = self._clock()
        self._seen.pop(organization, None)
        self._seen[organization] = now
        lane = self._lanes.setdefault(organization, _Lane())
        lane.called = max(0, lane.called - 1)
        most = self._most(organization, lane, now)
        if lane.busy < most and (most >= self._concurrency or now >= lane.free_at):
            lane.busy += 1
            lane.free_at = now + _PACE_SECONDS / most
            return 0.0
        pace = max(lane.seconds, _PACE_SECONDS) / most
        if self._is_alone(organization, now):
            pace /= _TURNS_A_PLACE
        lane.next_turn = min(max(lane.next_turn, now) + pace, now + _LONGEST_WAIT_SECONDS)
        return max(lane.next_turn - now, _SHORTEST_WAIT_SECONDS) * random.uniform(1.0, 1.1)  # noqa: S311 - to spread

    def leave(self, organization: UUID) -> None:
        """Give up a message that was taken in hand."""
        self._lanes[organization].busy -= 1
        if len(self._lanes) > _MOST_KEPT:
            self._forget()

    def put_aside(self, organization: UUID, job: str, until: int) -> None:
        """Note that a job was put aside until then, in milliseconds since 1970, unless too many are noted."""
        if self._put_aside < _MOST_PUT_ASIDE:
            lane = self._lanes.setdefault(organization, _Lane())
            self._put_aside += job not in lane.aside
            lane.aside[job] = until
            self._with_aside[organization] = lane

    def returning(self, at: int) -> list[tuple[str, int]]:
        """Return jobs that were put aside and have a place now, with until when they were; each is named once.

        `at` is the time in milliseconds since 1970: those whose time has come need not be called. Of an organization
        that is in trouble no longer those are all, in several calls if they are many.
        """
        if not self._with_aside:
            return []
        now, jobs = self._clock(), list[tuple[str, int]]()
        for organization, lane in list(self._with_aside.items()):
            jobs += self._called(organization, lane, now, at)
            if not lane.aside:
                del self._with_aside[organization]
        return jobs

    def _called(self, organization: UUID, lane: _Lane, now: float, at: int) -> list[tuple[str, int]]:
        if now - lane.called_at > _COMING_SECONDS:
            lane.called = 0
        most = self._most(organization, lane, now)
        free = _MOST_CALLED if most > self._concurrency else most - lane.busy - lane.called
        if most < self._concurrency and now < lane.free_at:
            free = 0
        jobs: list[tuple[str, int]] = []
        while lane.aside and len(jobs) < free:
            job, until = lane.aside.popitem(last=False)
            self._put_aside -= 1
            if until > at:
                jobs.append((job, until))
        if jobs:
            lane.called, lane.called_at = lane.called + len(jobs), now
        return jobs

    def aside(self) -> int:
        """Return how many messages in hand have others worked on beside them, the concurrency at most.

        They are those of organizations in trouble; of one that is alone, those that are slow, for behind them there
        may be another's.
        """
        now = self._clock()
        troubled = [(key, lane) for key, lane in self._lanes.items() if lane.busy and lane.is_in_trouble(now)]
        count = sum(lane.slow(now) if self._is_alone(key, now) else lane.busy for key, lane in troubled)
        return min(count, self._concurrency)

    @contextmanager
    def sending(self, organization: UUID) -> Iterator[Exchange]:
        """Note that a message is at a provider while the body runs."""
        lane, exchange = self._lanes.setdefault(organization, _Lane()), Exchange(self._clock())
        lane.exchanges[exchange] = None
        try:
            yield exchange
        finally:
            del lane.exchanges[exchange]
            now = self._clock()
            seconds = now - exchange.began
            lane.seconds += (seconds - lane.seconds) / _MEMORY
            lane.bad += ((exchange.failed or seconds > _SLOW_SECONDS) - lane.bad) / _MEMORY

    def _most(self, organization: UUID, lane: _Lane, now: float) -> int:
        """Return how many messages an organization may have in hand."""
        if not lane.is_in_trouble(now):
            # Those beside it that are in trouble have others beside them.
            return self._concurrency * 2
        if self._is_alone(organization, now):
            return self._concurrency
        return max(1, self._concurrency // _SHARE)

    def _is_alone(self, organization: UUID, now: float) -> bool:
        other = next((each for each in reversed(self._seen) if each != organization), None)
        return other is None or now - self._seen[other] > _OTHERS_SECONDS

    def _forget(self) -> None:
        now = self._clock()
        self._lanes = {
            key: lane for key, lane in self._lanes.items() if lane.busy or lane.aside or lane.bad > _MOST_BAD
        }
        self._seen = {key: seen for key, seen in self._seen.items() if now - seen < _OTHERS_SECONDS}
