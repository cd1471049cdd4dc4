"""Stop conditions of the supervisor. Standard library only."""

import os
import select
import signal


class Stop(Exception):  # noqa: N818 - a request, not an error
    """The servers are to end; the text, if any, says what went wrong."""


class Watch:
    """Turns signals and the end of standard input into `Stop`."""

    def __init__(self, *, stdin: bool) -> None:
        self._wake, wake_up = os.pipe()
        os.set_blocking(wake_up, False)
        signal.set_wakeup_fd(wake_up, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        # Inherited from whichever thread started us.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._sources = [self._wake, 0] if stdin else [self._wake]

    def pause(self, seconds: float | None = None) -> None:
        """Wait for the end of a child, or for `seconds`; raises Stop."""
        ready, _, _ = select.select(self._sources, (), (), seconds)
        if self._wake in ready and set(os.read(self._wake, 4096)) != {signal.SIGCHLD}:
            raise Stop
        if 0 in ready and not os.read(0, 4096):
            raise Stop
