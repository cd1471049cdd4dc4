"""Processes that work on one backfill side by side, and the one that watches them for the person at the terminal."""

import os
import subprocess
import time
from collections.abc import Iterator

from mauntic_jobs.backfill.store import BackfillWindow, WindowState, read_windows
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.runner.subprocesses import start_command, stop_all
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect

_POLL_SECONDS = 0.5
_ENDED = (WindowState.DONE, WindowState.FAILED)


class Workers:
    """`count` processes that work on backfill `number`; `code` is why one of them ended early, once all have ended."""

    def __init__(self, number: int, count: int, settings: Settings, *, failed_only: bool) -> None:
        self.code = ExitCode.DONE
        self._number, self._settings = number, settings
        # They end where this process has: a person who sees no more of them would take them for ended.
        words = ["backfill", "work", str(number), "--parent", str(os.getpid())]
        words += ["--failed-only"] if failed_only else []
        with connect(settings) as session:
            self._known = {(each.window, each.run) for each in read_windows(session, number) if each.state in _ENDED}
        self._processes = [start_command(words, settings, stdout=subprocess.DEVNULL) for _ in range(count)]

    def watch(self) -> Iterator[BackfillWindow]:
        """Yield the windows that end, until the processes have; whatever ends the watch stops them."""
        try:
            with connect(self._settings) as session:
                working = True
                while working:
                    working = any(process.poll() is None for process in self._processes)
                    for each in read_windows(session, self._number):
                        if each.state in _ENDED and (each.window, each.run) not in self._known:
                            self._known.add((each.window, each.run))
                            yield each
                    time.sleep(_POLL_SECONDS if working else 0)
        finally:
            stop_all(self._processes)
        codes = [process.returncode for process in self._processes if process.returncode]
        if codes:
            known = [code for code in codes if code in set(ExitCode)]
            self.code = ExitCode(known[0]) if known else ExitCode.FAILED
