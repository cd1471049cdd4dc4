"""The processes that run slots and tasks side by side; none can take the one that started it down with it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import IO

from mauntic_jobs.runner.request import Launcher
from mauntic_jobs.settings.serialize import revealed
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.settings.sources import variable

_STOP_SECONDS = 5


def start_slot(
    job: str, slot: datetime, launcher: Launcher, settings: Settings, *more: str, stdout: int | None = None
) -> subprocess.Popen[bytes]:
    """Start the run of a slot in a process of its own; `more` are further arguments of the job's command.

    What it prints goes where the output of this process goes, unless `stdout` says otherwise.
    """
    words = [job, "--slot", slot.isoformat(), "--launcher", launcher.value, *more]
    return start_command(words, settings, stdout=stdout)


def start_command(
    words: Sequence[str],
    settings: Settings,
    *,
    stdout: int | IO[bytes] | None = None,
    stderr: IO[bytes] | None = None,
    **variables: str,
) -> subprocess.Popen[bytes]:
    """Start a command of mauntic-jobs in a process of its own, with these settings and further `variables`.

    What it prints goes where the output of this process goes, unless `stdout` or `stderr` says otherwise.
    """
    return subprocess.Popen(
        # Without -P the working directory would come first on the path of modules.
        [sys.executable, "-P", "-m", "mauntic_jobs", *words],
        env={**os.environ, **_as_environment(settings), **variables},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        # So that Ctrl-C reaches this process alone, which then lets the runs end.
        start_new_session=True,
    )


def stop_all(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End runs: they roll back, and leave their slots to others."""
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Children:
    """The runs under way, one for each job at most; `more` are further arguments of their commands."""

    def __init__(self, settings: Settings, launcher: Launcher, *more: str) -> None:
        self._settings = settings
        self._launcher = launcher
        self._more = more
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._slots: dict[str, datetime] = {}

    def __contains__(self, job: str) -> bool:
        return job in self._processes

    @property
    def names(self) -> list[str]:
        """The jobs that are being run."""
        return list(self._processes)

    def start(self, job: str, slot: datetime) -> None:
        """Start the run of a slot."""
        self._processes[job] = start_slot(job, slot, self._launcher, self._settings, *self._more)
        self._slots[job] = slot

    def reap(self) -> Iterator[tuple[str, datetime, int]]:
        """Forget the runs that have ended, and yield the job, slot and exit code of each."""
        for job, process in list(self._processes.items()):
            code = process.poll()
            if code is not None:
                del self._processes[job]
                yield job, self._slots.pop(job), code

    def stop(self) -> None:
        """End the runs."""
        stop_all(list(self._processes.values()))
        self._processes.clear()


def _as_environment(settings: Settings) -> dict[str, str]:
    """Return the variables that give a child the same settings, wherever they came from."""
    values = {name: _as_variable(settings, name) for name in Settings.model_fields if name != "embedded"}
    return {variable(name): value for name, value in values.items() if value is not None}


def _as_variable(settings: Settings, name: str) -> str | None:
    value: object = revealed(settings, name)
    match value:
        case None:
            return None
        case dict() | list():
            return json.dumps(value)
        case _:
            return str(value)
