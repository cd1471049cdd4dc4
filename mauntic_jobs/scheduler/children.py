"""The processes that run the slots: one for each job at most."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from pydantic import SecretStr

from mauntic_jobs.config import Settings, shown, variable
from mauntic_jobs.runner.request import Launcher

_STOP_SECONDS = 5


class Children:
    """Runs by job, each in a process of its own: they run side by side, and none can take the loop down with it."""

    def __init__(self, settings: Settings) -> None:
        self._environment = {**os.environ, **_as_environment(settings)}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __contains__(self, job: str) -> bool:
        return job in self._processes

    @property
    def names(self) -> list[str]:
        """The jobs that are being run."""
        return list(self._processes)

    def start(self, job: str, slot: datetime) -> None:
        """Start the run of a slot. What it prints goes where the loop's output goes."""
        command = [sys.executable, "-m", "mauntic_jobs", job, "--slot", slot.isoformat()]
        self._processes[job] = subprocess.Popen(
            [*command, "--launcher", Launcher.LOOP.value],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            # So that Ctrl-C reaches the loop alone, which then lets the runs end.
            start_new_session=True,
        )

    def reap(self) -> Iterator[tuple[str, int]]:
        """Forget the runs that have ended, and yield the job and exit code of each."""
        for job, process in list(self._processes.items()):
            code = process.poll()
            if code is not None:
                del self._processes[job]
                yield job, code

    def stop(self) -> None:
        """End the runs: they roll back, and leave their slots to others."""
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()


def _as_environment(settings: Settings) -> dict[str, str]:
    """Return the variables that give a child the same settings, wherever they came from."""
    values = {name: _as_variable(settings, name) for name in Settings.model_fields if name != "embedded"}
    return {variable(name): value for name, value in values.items() if value is not None}


def _as_variable(settings: Settings, name: str) -> str | None:
    value: Any = getattr(settings, name)
    match value:
        case None:
            return None
        case SecretStr():
            return value.get_secret_value()
        case dict():
            return json.dumps(shown(settings, name))
        case _:
            return str(shown(settings, name))
