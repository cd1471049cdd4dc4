"""Leaving a provider alone that fails again and again."""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

_FAILURES = 5
_SHORTEST_SECONDS, _LONGEST_SECONDS = 30.0, 300.0


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    pause: float = 0.0
    closed_from: float = 0.0


class Breaker:
    """Opens after five failures in a row, for 30 s, and after each further failure for twice as long, up to 5 min."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._circuits: dict[Hashable, _Circuit] = {}

    def remaining(self, key: Hashable) -> float:
        """Return for how many more seconds nothing is to be tried; 0 if it may be."""
        circuit = self._circuits.get(key)
        return max(0.0, circuit.closed_from - self._clock()) if circuit else 0.0

    def succeeded(self, key: Hashable) -> None:
        """Note that it works."""
        self._circuits.pop(key, None)

    def failed(self, key: Hashable) -> None:
        """Note that it failed. Failures that were under way when it opened do not count."""
        circuit = self._circuits.setdefault(key, _Circuit())
        if circuit.closed_from > self._clock():
            return
        circuit.failures += 1
        if circuit.failures >= _FAILURES:
            circuit.pause = min(max(circuit.pause * 2, _SHORTEST_SECONDS), _LONGEST_SECONDS)
            circuit.closed_from = self._clock() + circuit.pause

    def open_now(self) -> list[Hashable]:
        """Return what is being left alone."""
        return [key for key in self._circuits if self.remaining(key) > 0]
