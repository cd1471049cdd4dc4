"""Running the scheduled jobs that BullMQ launches: the slot of the BullMQ job decides what is run."""

import json
import subprocess
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

from pydantic import ValidationError

from mauntic_jobs.bullmq.job import GiveBackError, ReceivedJob, UnrecoverableError
from mauntic_jobs.config import Settings
from mauntic_jobs.cron import latest_slot
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.job import Job
from mauntic_jobs.runner.children import start_slot, stop_all
from mauntic_jobs.runner.request import Launcher

# What may be otherwise a little later. The others need somebody to look, and four attempts would not change them.
_PASSING = {ExitCode.UNAVAILABLE, ExitCode.TRY_LATER, ExitCode.TIMEOUT}


class SlotLauncher:
    """A handler of one queue's jobs, which runs the slot of each as `job` in a process of its own."""

    def __init__(self, job: Job[Any], settings: Settings, tell: Callable[[str], None]) -> None:
        self._job = job
        self._settings = settings
        self._tell = tell
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._lock = Lock()

    def __call__(self, received: ReceivedJob) -> dict[str, Any]:
        """Run the slot, and return how the run ended. Raises for a run that failed, by what may come of another try."""
        if received.name != self._job.name:
            raise UnrecoverableError(f"this queue is for {self._job.name}, and the job's name is {received.name!r}")
        # BullMQ's clock may strike at other times than ours.
        slot = latest_slot(self._job.cron, received.due)
        options = _options(self._job, received.data)
        with self._lock:
            if self._stopped:
                raise GiveBackError
            self._process = start_slot(
                self._job.name, slot, Launcher.BULLMQ, self._settings, "--json", *options, stdout=subprocess.PIPE
            )
        output, _ = self._process.communicate()
        return self._outcome(self._process.returncode, output)

    def stop(self) -> None:
        """End the run under way: it rolls back, and its job goes back to the queue."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                stop_all([self._process])

    def _outcome(self, code: int, output: bytes) -> dict[str, Any]:
        run: dict[str, Any] = next(iter(json.loads(output)["runs"]), {}) if output else {}
        error = (run.get("error") or {}).get("message", f"{self._job.name} ended with exit code {code}")
        if code in (ExitCode.DONE, ExitCode.PARTIAL):
            names = ("run_id", "status", "window", "counters", "problems")
            return {**{name: run.get(name) for name in names}, "note": (run.get("error") or {}).get("message")}
        if self._stopped:
            raise GiveBackError
        if code in _PASSING or code < 0:
            raise RuntimeError(error)
        raise UnrecoverableError(error)


def _options(job: Job[Any], data: Mapping[str, Any]) -> list[str]:
    """Return the job's options that the BullMQ job's data gives under `options`, as arguments of its command."""
    given = data.get("options") or {}
    try:
        job.options.model_validate(given)
    except ValidationError as error:
        raise UnrecoverableError(f"its options cannot be used: {error.errors()[0]['msg']}") from None
    arguments: list[str] = []
    for name, value in given.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            arguments.append(flag)
        for each in value if isinstance(value, list) else [] if isinstance(value, bool) else [value]:
            arguments += [flag, str(each)]
    return arguments
