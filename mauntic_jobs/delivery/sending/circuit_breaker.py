"""Circuit breaker for providers."""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime

_FAILURES = 5
_SHORTEST_SECONDS, _LONGEST_SECONDS = 30.0, 300.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a provider is left alone: its latest answer, the first of `tries` in a row being at `since`, in UTC."""

    reason: str
    since: datetime
    tries: int

    def __str__(self) -> str:
        """Return the sentence that stands beside each message that waits for it."""
        tries = "1 try" if self.tries == 1 else f"{self.tries:,} tries"
        return f"{self.reason} (since {self.since:%Y-%m-%d %H:%M} UTC, {tries})"


@dataclass(slots=True)
class _Circuit:
    refusal: Refusal
    open_until: float = 0.0


class CircuitBreaker:
    """Opens after five failures in a row, for 30 s, and after each further failure for twice as long, up to 5 min.

    Keys are hashable names of providers. `watch` says of which keys a success is to be noted, in `recovered`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._circuits: dict[Hashable, _Circuit] = {}
        self._worked: dict[Hashable, datetime] = {}
        self._watched: frozenset[Hashable] = frozenset()
        self.recovered: set[Hashable] = set()

    def remaining(self, key: Hashable) -> float:
        """Return for how many more seconds nothing is to be tried; 0 if it may be."""
        # Mostly nothing fails, and keys are slow to look up.
        circuit = self._circuits.get(key) if self._circuits else None
        return max(0.0, circuit.open_until - self._clock()) if circuit else 0.0

    def refusal(self, key: Hashable) -> Refusal | None:
        """Return why a provider is left alone, or None if it is not."""
        return self._circuits[key].refusal if self.remaining(key) else None

    def opened(self) -> dict[Hashable, tuple[Refusal, float]]:
        """Return the circuits that have opened and that no success has closed, with the seconds until the next try."""
        return {
            key: (circuit.refusal, self.remaining(key)) for key, circuit in self._circuits.items() if circuit.open_until
        }

    def adopt(self, key: Hashable, refusal: Refusal, seconds: float) -> None:
        """Know of a circuit that another process has opened, and that is tried in so many seconds.

        What works here does not fail: the fault is of the other host.
        """
        own, worked = self._circuits.get(key), self._worked.get(key)
        if worked is not None and worked >= refusal.since:
            return
        if own is None or own.refusal.tries < refusal.tries:
            self._circuits[key] = _Circuit(refusal, self._clock() + max(seconds, 0.0))

    def watch(self, keys: frozenset[Hashable]) -> None:
        """Note successes of these keys from now on."""
        self._watched = keys

    def succeeded(self, key: Hashable, now: datetime) -> None:
        """Note that it works."""
        if self._circuits:
            self._circuits.pop(key, None)
        self._worked[key] = now
        if self._watched and key in self._watched:
            self.recovered.add(key)

    def close(self, key: Hashable) -> None:
        """Let it be tried again, as if it had never failed."""
        self._circuits.pop(key, None)

    def failed(self, key: Hashable, reason: str, now: datetime) -> None:
        """Note that it failed. Failures that were under way when it opened do not count."""
        self.recovered.discard(key)
        circuit = self._circuits.get(key)
        if circuit is None:
            self._circuits[key] = _Circuit(Refusal(reason, now, 1))
            return
        if circuit.open_until > self._clock():
            return
        circuit.refusal = Refusal(reason, circuit.refusal.since, circuit.refusal.tries + 1)
        further = circuit.refusal.tries - _FAILURES
        if further >= 0:
            # The bound keeps the power of two finite.
            circuit.open_until = self._clock() + min(_SHORTEST_SECONDS * 2 ** min(further, 10), _LONGEST_SECONDS)
