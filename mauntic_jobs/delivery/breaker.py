"""Circuit breaker for providers that fail again and again, or want to be asked later."""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

_FAILURES = 5
_SHORTEST_SECONDS, _LONGEST_SECONDS = 30.0, 300.0
# Whatever a provider says: by then it is asked again.
_LONGEST_LIMIT_SECONDS = 3600.0


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    pause: float = 0.0
    closed_from: float = 0.0
    reason: str = ""


class Breaker:
    """Opens after five failures in a row, for 30 s, and after each further failure for twice as long, up to 5 min."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._circuits: dict[Hashable, _Circuit] = {}
        self._limits: dict[Hashable, float] = {}

    def remaining(self, key: Hashable) -> float:
        """Return for how many more seconds nothing is to be tried; 0 if it may be."""
        circuit = self._circuits.get(key)
        return max(0.0, circuit.closed_from - self._clock()) if circuit else 0.0

    def succeeded(self, key: Hashable) -> None:
        """Note that it works."""
        self._circuits.pop(key, None)

    def reason(self, key: Hashable) -> str:
        """Return why it failed last, empty if it works."""
        circuit = self._circuits.get(key)
        return circuit.reason if circuit else ""

    def failed(self, key: Hashable, reason: str = "") -> None:
        """Note that it failed. Failures that were under way when it opened do not count."""
        circuit = self._circuits.setdefault(key, _Circuit())
        circuit.reason = reason
        if circuit.closed_from > self._clock():
            return
        circuit.failures += 1
        if circuit.failures >= _FAILURES:
            circuit.pause = min(max(circuit.pause * 2, _SHORTEST_SECONDS), _LONGEST_SECONDS)
            circuit.closed_from = self._clock() + circuit.pause

    def limited(self, key: Hashable, seconds: float) -> None:
        """Note that it wants to be left alone for so long."""
        self._limits[key] = max(self._limits.get(key, 0.0), self._clock() + min(seconds, _LONGEST_LIMIT_SECONDS))

    def limit(self, key: Hashable) -> float:
        """Return for how many more seconds it wants to be left alone."""
        until = self._limits.get(key)
        if until is None:
            return 0.0
        remaining = until - self._clock()
        if remaining <= 0:
            del self._limits[key]
        return max(0.0, remaining)
