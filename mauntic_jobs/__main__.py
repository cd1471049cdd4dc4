"""Entry point of the program, also as `python -m mauntic_jobs`."""

import gc
import os
import signal
import sys

from mauntic_jobs.cli.framework.signals import stays
from mauntic_jobs.scheduler.idle_stamp import nothing_is_due


def main() -> None:
    """Run the command line of this process and exit."""
    if stays(sys.argv[1:]):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: os._exit(0))
    if nothing_is_due(sys.argv[1:]):
        return
    # Until a command runs, nothing becomes garbage: to look for it would take a tenth of the time.
    gc.disable()
    # It takes half a second.
    from mauntic_jobs.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
