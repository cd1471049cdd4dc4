"""Launch of scheduled jobs by BullMQ: the slot of the BullMQ job decides what runs."""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

from pydantic import ValidationError

from mauntic_jobs.backfill.enqueue import BACKFILL
from mauntic_jobs.bullmq.windows import ENDED, start_window
from mauntic_jobs.errors import ClockSkewError, ExitCode, MaunticJobsError
from mauntic_jobs.job import AnyJob, as_arguments
from mauntic_jobs.runner.clock_skew import shared_time
from mauntic_jobs.runner.request import Launcher
from mauntic_jobs.runner.schedule_settings import StoredSchedule, as_stored, read_stored
from mauntic_jobs.runner.subprocesses import start_slot, stop_all
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.bullmq.job import GiveBackError, ReceivedJob, UnrecoverableError
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.cron import latest_slot

_DONE = {ExitCode.DONE, ExitCode.PARTIAL, ExitCode.ALERT_UNDELIVERABLE}
# What may be otherwise a little later. The others need an operator, and four attempts would not change them.
_PASSING = {ExitCode.UNAVAILABLE, ExitCode.TRY_LATER, ExitCode.TIMEOUT}
# A service manager may send a signal to all processes at once: the run has rolled back, and its slot is free.
_ASKED_TO_STOP = {ExitCode.INTERRUPTED, ExitCode.TERMINATED}


class SlotLauncher:
    """A handler of one queue's jobs, which runs the slot of each in a process of its own; `jobs` are those it knows."""

    def __init__(self, jobs: Sequence[AnyJob], settings: Settings) -> None:
        self._jobs = {job.name: job for job in jobs}
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        # Unknown, or wrong, until the next look.
        self._agrees = False
        self._stored: Mapping[str, StoredSchedule] | None = None
        self._lock = Lock()

    def check_clock(self) -> None:
        """Compare the host's clock with the database's, unless they agreed when it was last looked.

        Each job looks again, and goes back to the queue if they do not: without one the database is left alone. Raises
        ClockSkewError.
        """
        if not self._agrees:
            self._read_database()

    def _read_database(self) -> MaunticJobsError | None:
        """Compare the clocks, and read which cron lines the database sets; return the error if it is away."""
        self._agrees = False
        try:
            with connect(self._settings) as session:
                shared_time(session, clock.now)
                self._stored = read_stored(session)
        except ClockSkewError:
            raise
        except MaunticJobsError as error:
            return error
        self._agrees = True
        return None

    def __call__(self, received: ReceivedJob) -> dict[str, object]:
        """Run the slot, and return how the run ended. Raises for a run that failed, by what may come of another try."""
        job = self._job_called(received.name)
        try:
            problem = self._read_database()
        except ClockSkewError as error:
            # The worker takes no other before the clocks agree.
            raise GiveBackError from error
        if BACKFILL in received.data:
            return self._run_window(job, received.data)
        if self._stored is None:
            # By a line that the database does not set, the slot may be another one. Later the run says that it is away.
            raise RuntimeError(str(problem))
        # BullMQ's clock may strike at other times than ours.
        slot = latest_slot(as_stored(job, self._stored.get(job.name)).cron, received.due)
        if slot > clock.now():
            raise RuntimeError(
                f"its slot {slot:%Y-%m-%dT%H:%M:%S}Z is yet to come: it was promoted, or a clock is wrong"
            )
        options = _options(job, received.data)
        code, output = self._run(
            lambda: start_slot(
                job.name, slot, Launcher.BULLMQ, self._settings, "--json", *options, stdout=subprocess.PIPE
            )
        )
        return self._outcome(job, code, output)

    def _run_window(self, job: AnyJob, data: Mapping[str, object]) -> dict[str, object]:
        """Run a window of a backfill. One that failed is done as far as the queue goes: the ledger has it."""
        code, output = self._run(lambda: start_window(data, self._settings))
        if code in ENDED:
            return {**data, "status": ENDED[ExitCode(code)]}
        return self._outcome(job, code, output)

    def _run(self, start: Callable[[], subprocess.Popen[bytes]]) -> tuple[int, bytes]:
        """Start a process unless the worker is to stop, wait for its end, and return its exit code and output."""
        with self._lock:
            if self._stopped:
                raise GiveBackError
            self._process = start()
        output, _ = self._process.communicate()
        return self._process.returncode, output

    def _job_called(self, name: str) -> AnyJob:
        """Return the queue's only job, or of several the one with this name."""
        if len(self._jobs) == 1:
            # The platform's schedulers have names of their own.
            return next(iter(self._jobs.values()))
        if name not in self._jobs:
            raise UnrecoverableError(f"this queue is for {', '.join(self._jobs)}, and the job's name is {name!r}")
        return self._jobs[name]

    def stop(self) -> None:
        """End the run under way: it rolls back, and its job goes back to the queue."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                stop_all([self._process])

    def _outcome(self, job: AnyJob, code: int, output: bytes) -> dict[str, object]:
        run = _run_of(output)
        error = (run.get("error") or {}).get("message", f"{job.name} ended with exit code {code}")
        if code in _DONE:
            names = ("run_id", "status", "window", "counters", "problems")
            return {**{name: run.get(name) for name in names}, "note": (run.get("error") or {}).get("message")}
        if self._stopped or code in _ASKED_TO_STOP:
            raise GiveBackError
        if code in _PASSING or code < 0:
            raise RuntimeError(error)
        raise UnrecoverableError(error)


def _run_of(output: bytes) -> dict[str, Any]:
    try:
        run: dict[str, object] = json.loads(output)["runs"][0]
    except (ValueError, LookupError):  # it came to its end before the run did
        return {}
    return run


def _options(job: AnyJob, data: Mapping[str, Any]) -> list[str]:
    """Return the job's options that the BullMQ job's data gives under `options`, as arguments of its command."""
    given = data.get("options") or {}
    if isinstance(given, dict):
        given = {name: value for name, value in given.items() if value is not None}
    try:
        job.options.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise UnrecoverableError(f"its options cannot be used: {place} {problem['msg']}".replace("  ", " ")) from None
    return as_arguments(given)
