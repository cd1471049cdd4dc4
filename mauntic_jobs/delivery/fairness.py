"""Sharing a channel between organizations, so that one whose messages take long does not hold up the others."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

# A message that has been at a provider for longer is slow, and its organization for a while after it.
SLOW_SECONDS = 1.0
_SLOW_FOR_SECONDS = 30.0
# What a slow organization may have in hand while others have messages, of all that are worked on at once.
_SHARE = 5
_OTHERS_SECONDS = 60.0
_SHORTEST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 300.0
_MOST_KEPT = 10_000


@dataclass(slots=True)
class _Lane:
    """One organization: how many messages are in hand, since when some are at a provider, and its place in line."""

    busy: int = 0
    sending: dict[object, float] = field(default_factory=dict)
    slow_until: float = 0.0
    seconds: float = SLOW_SECONDS
    next_turn: float = 0.0


class Fairness:
    """Says whose turn it is. `concurrency` is how many messages of the channel are worked on at once."""

    def __init__(self, concurrency: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._concurrency = concurrency
        self._clock = clock
        self._lanes: dict[UUID, _Lane] = {}
        # By organization, the one that came last at the end.
        self._seen: dict[UUID, float] = {}

    def admit(self, organization: UUID) -> float:
        """Take a message in hand, which `leave` must follow, and return 0; or return for how many seconds it waits.

        Those that wait are given turns one after the other, as fast as the organization gets on.
        """
        now = self._clock()
        self._seen.pop(organization, None)
        self._seen[organization] = now
        lane = self._lanes.setdefault(organization, _Lane())
        most = self._most(organization, lane, now)
        if lane.busy < most:
            lane.busy += 1
            return 0.0
        lane.next_turn = min(max(lane.next_turn, now) + lane.seconds / most, now + _LONGEST_WAIT_SECONDS)
        return max(lane.next_turn - now, _SHORTEST_WAIT_SECONDS) * random.uniform(1.0, 1.1)  # noqa: S311 - to spread

    def leave(self, organization: UUID) -> None:
        """Give up a message that was taken in hand."""
        self._lanes[organization].busy -= 1
        if len(self._lanes) > _MOST_KEPT:
            self._forget()

    @contextmanager
    def sending(self, organization: UUID) -> Iterator[None]:
        """Note that a message is at a provider."""
        lane, began, this = self._lanes.setdefault(organization, _Lane()), self._clock(), object()
        lane.sending[this] = began
        try:
            yield
        finally:
            del lane.sending[this]
            now = self._clock()
            lane.seconds += (now - began - lane.seconds) / 4
            if now - began > SLOW_SECONDS:
                lane.slow_until = now + _SLOW_FOR_SECONDS

    def _most(self, organization: UUID, lane: _Lane, now: float) -> int:
        """Return how many messages an organization may have in hand."""
        oldest = next(iter(lane.sending.values()), now)
        is_slow = now - oldest > SLOW_SECONDS or now < lane.slow_until
        if not is_slow or self._is_alone(organization, now):
            return self._concurrency
        return max(1, self._concurrency // _SHARE)

    def _is_alone(self, organization: UUID, now: float) -> bool:
        other = next((each for each in reversed(self._seen) if each != organization), None)
        return other is None or now - self._seen[other] > _OTHERS_SECONDS

    def _forget(self) -> None:
        now = self._clock()
        self._lanes = {key: lane for key, lane in self._lanes.items() if lane.busy or now < lane.slow_until}
        self._seen = {key: seen for key, seen in self._seen.items() if now - seen < _OTHERS_SECONDS}
