"""The program, with failpoints switched on: FAILPOINT=name:hit kills the process when it gets there the hit-th time."""

import os
import signal

from mauntic_jobs.cli.main import main
from mauntic_jobs.delivery import failpoints

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


if __name__ == "__main__":
    point, _, number = os.environ.get("FAILPOINT", "").partition(":")
    if point:
        _install(point, int(number or 1))
    main()
