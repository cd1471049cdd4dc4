"""Processes that work on one backfill side by side, and the one that watches them for the person at the terminal."""

import os
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait

from mauntic_jobs.backfill.store import BackfillWindow, WindowState, read_windows
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.processes import may_fork, new_process
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect

_POLL_SECONDS = 0.5
_STOP_SECONDS = 5.0
_ENDED = (WindowState.DONE, WindowState.FAILED)

# The work of a process. Its arguments: the settings, the number of the backfill, and the id of the process that watches
# it. It runs windows until none is left or the watching process has ended, and exits with an ExitCode.
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
        given, fork = (settings, number, os.getpid()), may_fork()
        self._processes = [new_process(target, given, fork=fork) for _ in range(count)]
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
