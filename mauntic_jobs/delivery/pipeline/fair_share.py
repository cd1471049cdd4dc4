"""Fair shares of a channel: an organization with a slow or failing provider does not hold up the others."""

import random
import time
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
# A lane that waits is judged again within these, though no place has become free here: another process may have one.
_SHORTEST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.1, 5.0
_MOST_KEPT = 10_000


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
    # How many messages its provider takes at once, None for no limit.
    places: int | None = None
    # Whether messages may wait on the queue for a place of this process.
    is_held: bool = False

    def is_in_trouble(self, now: float) -> bool:
        slow = self.slow(now)
        return self.bad > _MOST_BAD or (slow > 0 and slow >= len(self.exchanges) * _MOST_BAD)

    def within_places(self, share: int) -> int:
        return share if self.places is None else min(share, self.places)

    def slow(self, now: float) -> int:
        return sum(now - each.began > _SLOW_SECONDS for each in self.exchanges)


class FairShare:
    """Says whose turn it is. `concurrency` is how many messages of the channel are at providers at once."""

    def __init__(self, concurrency: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.concurrency = concurrency
        self._clock = clock
        self._lanes: dict[UUID, _Lane] = {}
        # By organization, the one that came last at the end.
        self._seen: dict[UUID, float] = {}

    def admit(self, organization: UUID, places: int | None = None) -> float:
        """Take a message in hand, which `leave` must follow, and return 0; or return for how many seconds it waits.

        The organization's provider takes so many messages at once as it has `places`. A message that waits may be asked
        for again earlier, as soon as `leave` says so.
        """
        now = self._clock()
        self._seen.pop(organization, None)
        self._seen[organization] = now
        lane = self._lanes.setdefault(organization, _Lane())
        lane.places = places
        share = self._share(organization, lane, now)
        most = lane.within_places(share)
        is_paced = share < self.concurrency and now < lane.free_at
        if lane.busy < most and not is_paced:
            lane.busy += 1
            lane.free_at = now + _PACE_SECONDS / most
            return 0.0
        lane.is_held = True
        wait = lane.free_at - now if lane.busy < most else max(lane.seconds, _PACE_SECONDS) / most
        wait = min(max(wait, _SHORTEST_WAIT_SECONDS), _LONGEST_WAIT_SECONDS)
        return wait * random.uniform(1.0, 1.1)  # noqa: S311 - to spread

    def leave(self, organization: UUID) -> bool:
        """Give up a message that was taken in hand; return whether others, which wait for a place, have one now."""
        lane = self._lanes[organization]
        lane.busy -= 1
        now = self._clock()
        # The lanes of one in trouble may wait for a place of another process.
        may_wait = lane.is_held or lane.is_in_trouble(now)
        is_free = may_wait and lane.busy < lane.within_places(self._share(organization, lane, now))
        lane.is_held = lane.is_held and not is_free
        if len(self._lanes) > _MOST_KEPT:
            self._forget()
        return is_free

    def aside(self) -> int:
        """Return how many messages in hand have others worked on beside them, the concurrency at most.

        They are those of organizations in trouble; of one that is alone, those that are slow, for behind them there
        may be another's.
        """
        now = self._clock()
        troubled = [(key, lane) for key, lane in self._lanes.items() if lane.busy and lane.is_in_trouble(now)]
        count = sum(lane.slow(now) if self._is_alone(key, now) else lane.busy for key, lane in troubled)
        return min(count, self.concurrency)

    def is_in_trouble(self, organization: UUID) -> bool:
        """Return whether most of an organization's latest messages are slow or fail."""
        lane = self._lanes.get(organization)
        return lane is not None and lane.is_in_trouble(self._clock())

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

    def _share(self, organization: UUID, lane: _Lane, now: float) -> int:
        """Return how many messages an organization may have in hand, whatever its provider takes."""
        if not lane.is_in_trouble(now):
            # Those beside it that are in trouble have others beside them.
            return self.concurrency * 2
        if self._is_alone(organization, now):
            return self.concurrency
        return max(1, self.concurrency // _SHARE)

    def _is_alone(self, organization: UUID, now: float) -> bool:
        other = next((each for each in reversed(self._seen) if each != organization), None)
        return other is None or now - self._seen[other] > _OTHERS_SECONDS

    def _forget(self) -> None:
        now = self._clock()
        self._lanes = {key: lane for key, lane in self._lanes.items() if lane.busy or lane.bad > _MOST_BAD}
        self._seen = {key: seen for key, seen in self._seen.items() if now - seen < _OTHERS_SECONDS}
