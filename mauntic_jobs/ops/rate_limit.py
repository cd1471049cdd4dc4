"""Rate limit of actions on messages, a second, minute or hour."""

import re
import time
from collections.abc import Callable

from mauntic_jobs.errors import UsageError

_RATE = re.compile(r"(\d+(?:\.\d+)?)/(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_MAX_BATCH = 100


def parse_rate(text: str) -> float:
    """Read a rate such as 5/s, 300/m or 1000/h, as a number for each second. Raises UsageError."""
    match = _RATE.fullmatch(text.strip().lower())
    if not match or not float(match[1]):
        raise UsageError(f"Cannot read {text!r} as a rate: write it like 5/s, 300/m or 1000/h.")
    return float(match[1]) / _SECONDS[match[2]]


class Pace:
    """Keeps work to a rate, in portions that are as large as a second's, up to a hundred."""

    def __init__(self, rate: float, sleep: Callable[[float], None] = time.sleep) -> None:
        self.portion = max(1, min(_MAX_BATCH, int(rate)))
        self._rate = rate
        self._sleep = sleep
        self._next = time.monotonic()

    def wait(self, count: int) -> None:
        """Return when `count` more may be done; the first need not wait."""
        now = time.monotonic()
        if self._next > now:
            self._sleep(self._next - now)
        self._next = max(self._next, now) + count / self._rate
