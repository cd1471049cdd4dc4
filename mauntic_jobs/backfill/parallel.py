"""Processes that work on one backfill side by side, and the one that watches them for the person at the terminal."""

import os
import sys
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from threading import active_count

from mauntic_jobs.backfill.store import BackfillWindow, WindowState, read_windows
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect

_POLL_SECONDS = 0.5
_STOP_SECONDS = 5.0
_ENDED = (WindowState.DONE, WindowState.FAILED)

# What a process does: run windows of the backfill of this number until none is left. It exits with an ExitCode, and
# begins no further window once the process `parent` has ended.
Target = Callable[[Settings, int, int], None]


class Workers:
    """`count` processes that work on backfill `number`; `code` is why one of them ended early, once all have ended.

    `target` must be a function of a module.
    """

    def __init__(self, number: int, count: int, settings: Settings, target: Target) -> None:
        self.code = ExitCode.DONE
        self._number, self._settings = number, settings
        with connect(settings) as session:
            self._known = {(each.window, each.run) for each in read_windows(session, number) if each.state in _ENDED}
        # Without it Python looks for the modules that it starts with in the working directory first.
        os.environ["PYTHONSAFEPATH"] = "1"
        given = settings, number, os.getpid()
        self._processes = [_process(target, given) for _ in range(count)]
        for process in self._processes:
            process.start()

    def watch(self) -> Iterator[BackfillWindow]:
        """Yield the windows that end, until the processes have; whatever ends the watch stops them."""
        try:
            with connect(self._settings) as session:
                while True:
                    working = [process.sentinel for process in self._processes if process.is_alive()]
                    for each in read_windows(session, self._number):
                        if each.state in _ENDED and (each.window, each.run) not in self._known:
                            self._known.add((each.window, each.run))
                            yield each
                    if not working:
                        break
                    wait(working, _POLL_SECONDS)
        finally:
            self._stop()
        codes = [process.exitcode for process in self._processes if process.exitcode]
        if codes:
            known = [code for code in codes if code in set(ExitCode)]
            self.code = ExitCode(known[0]) if known else ExitCode.FAILED

    def _stop(self) -> None:
        """End the processes: what they run rolls back, and is left to others."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(_STOP_SECONDS)
            process.kill()
            process.join()


def _process(target: Target, given: tuple[object, ...]) -> BaseProcess:
    """Return a process that is a fork, if it may be one: a fork has imported already what it needs.

    In one of several threads it may hang, and so it may on macOS, whose libraries have threads of their own.
    """
    if sys.platform == "linux" and active_count() == 1:
        return get_context("fork").Process(target=target, args=given)
    return get_context("spawn").Process(target=target, args=given)
