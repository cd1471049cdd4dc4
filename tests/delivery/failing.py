"""The program, with failpoints switched on, and a clock that may be wrong.

FAILPOINT=name:hit kills the process when it gets there the hit-th time; CLOCK_HOURS says how far its clock is ahead.
"""

import os
import signal
from datetime import timedelta

from mauntic_jobs.__main__ import main
from mauntic_jobs.delivery import failpoints
from mauntic_jobs.timekeeping import clock

POINTS = (
    *("taken", "before-claim", "after-claim", "before-content", "after-content"),
    *("after-send", "before-record", "after-record", "before-ack", "after-ack"),
)


def _install(name: str, hit: int) -> None:
    left = hit

    def kill() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    failpoints.hooks[name] = kill


def _set_clock(ahead: timedelta) -> None:
    right = clock.now
    clock.now = lambda: right() + ahead


if __name__ == "__main__":
    _set_clock(timedelta(hours=float(os.environ.get("CLOCK_HOURS", "0"))))
    point, _, number = os.environ.get("FAILPOINT", "").partition(":")
    if point:
        _install(point, int(number or 1))
    main()
