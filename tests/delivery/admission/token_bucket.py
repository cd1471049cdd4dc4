"""Token bucket of a provider, as SES and others have it: so many messages a second, and a second's worth at once."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class TokenBucket:
    """Takes `rate` messages a second, `burst` at once, by `clock`. `taken` and `refused` are when it did so."""

    rate: float
    burst: float
    clock: Callable[[], float] = time.monotonic
    taken: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._tokens, self._at = self.burst, self.clock()
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Return whether a message is taken now."""
        with self._lock:
            now = self.clock()
            self._tokens, self._at = min(self.burst, self._tokens + (now - self._at) * self.rate), now
            is_taken = self._tokens >= 1
            self._tokens -= is_taken
            (self.taken if is_taken else self.refused).append(now)
            return is_taken
