"""Runner of upkeep tasks: claims those that are due in the database, and runs each as a process with a time limit."""

import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from tempfile import TemporaryFile
from threading import Timer
from types import TracebackType
from typing import IO, NamedTuple, Self

from mauntic_jobs.errors import ExitCode, MaunticJobsError
from mauntic_jobs.redaction.text import scrub
from mauntic_jobs.runner.request import Launcher
from mauntic_jobs.runner.subprocesses import start_command, stop_all
from mauntic_jobs.scheduler.upkeep import Task, tasks_of
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits, Session, connect
from mauntic_jobs.timekeeping.cron import next_slot
from mauntic_jobs.timekeeping.window import format_duration

# Within this after its limit the end of a run is recorded. Later its clock counts as dead.
_RECORDED_WITHIN = timedelta(minutes=1)
_LIMITS = Limits("mauntic-jobs upkeep", timedelta(seconds=10))
# A task prints a line for each problem. More than this is a defect, whose last lines say what it is.
_MAX_OUTPUT_BYTES = 4_096

_sql = statements("upkeep")


class _Ended(NamedTuple):
    """How a run ended. `failed` is None for one that was stopped from outside, whose slot is due again."""

    task: str
    started_at: datetime
    code: int
    lines: Sequence[str]
    failed: bool | None


@dataclass
class _Child:
    """A run under way, with the files that get what it prints, and the timer that ends it."""

    task: Task
    started_at: datetime
    process: subprocess.Popen[bytes]
    report: IO[bytes]
    messages: IO[bytes]
    files: ExitStack
    began: float
    timer: Timer

    def ended(self, code: int) -> _Ended:
        """Return how the run ended; call it once."""
        lines = _last_lines(self.messages)
        if code < 0 and time.monotonic() - self.began >= self.task.limit.total_seconds():
            lines.append(f"ended after {format_duration(self.task.limit)}, its time limit")
        # A failure may have the same exit code, but a watch that finds something has printed its report.
        found = code == self.task.finds and self.report.seek(0, 2) > 0
        failed = code not in (ExitCode.DONE, ExitCode.ALERT_UNDELIVERABLE) and not found
        if failed and not lines:
            lines.append(f"ended with exit code {code}")
        self._close()
        return _Ended(self.task.name, self.started_at, code, lines, failed)

    def stopped(self) -> _Ended:
        """Return that the run was stopped from outside; call it once."""
        self._close()
        return _Ended(self.task.name, self.started_at, self.process.returncode, [], None)

    def _close(self) -> None:
        self.timer.cancel()
        self.files.close()


class UpkeepRunner:
    """Runs tasks of upkeep beside the jobs. A failure of any of them goes to `log`, and raises nothing.

    `tasks` are by default those that the settings ask for. As a context, it waits at the end for the runs under way, or
    stops them if a signal ends the process; each run ends by its time limit. `undeliverable` is set once a run had
    alerts that no channel took.
    """

    def __init__(
        self, settings: Settings, launcher: Launcher, log: Callable[[str], None], tasks: Sequence[Task] | None = None
    ) -> None:
        self._settings = settings
        self._by = f"{launcher} on {settings.launcher_id or socket.gethostname()}"
        self._log = log
        self._tasks = {task.name: task for task in (tasks_of(settings) if tasks is None else tasks)}
        self._children: list[_Child] = []
        self._ended: list[_Ended] = []
        self._trouble: str | None = None
        self.undeliverable = False

    def next_slots(self, now: datetime) -> list[datetime]:
        """Return the next slot of each task after `now`, the database's time."""
        return [next_slot(task.cron, now) for task in self._tasks.values()]

    def start_due(self, session: Session) -> None:
        """Record the runs that have ended, and start the tasks whose slot no other clock has claimed."""
        if not self._tasks:
            return
        self.reap()
        try:
            with session.transaction(_LIMITS):
                self._record(session)
                claimed = session.rows(_sql["claim"], self._claims())
            self._ended.clear()
        except MaunticJobsError as error:
            if str(error) != self._trouble:
                self._log(f"schedule: watching and pruning are not started: {error}")
            self._trouble = str(error)
            return
        self._trouble = None
        for row in claimed:
            self._start(self._tasks[row["task"]], row["started_at"])

    def reap(self) -> None:
        """Note the runs that have ended, and log what they have printed."""
        for child in list(self._children):
            code = child.process.poll()
            if code is None:
                continue
            self._children.remove(child)
            ended = child.ended(code)
            for line in ended.lines:
                self._log(f"schedule: {child.task.name}: {line}")
            self.undeliverable |= code == ExitCode.ALERT_UNDELIVERABLE
            self._ended.append(ended)

    def stop(self) -> None:
        """Stop the runs under way. Their slots are due again."""
        stop_all([child.process for child in self._children])
        self._ended += [child.stopped() for child in self._children]
        self._children.clear()
        self._record_alone()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not issubclass(kind, Exception):
            self.stop()
            return
        try:
            for child in self._children:
                child.process.wait()
        except BaseException:
            self.stop()
            raise
        self.reap()
        self._record_alone()

    def _start(self, task: Task, started_at: datetime) -> None:
        files = ExitStack()
        # The report says whether the task has done its work. Its messages are read by people.
        words = [*task.command.split(), "--json"]
        try:
            report = files.enter_context(TemporaryFile())  # noqa: SIM115 - the stack closes it
            messages = files.enter_context(TemporaryFile())  # noqa: SIM115
            process = start_command(words, self._settings, stdout=report, stderr=messages, MAUNTIC_LOG_FORMAT="human")
        except OSError as error:
            files.close()
            text = f"cannot be started: {error.strerror}"
            self._log(f"schedule: {task.name}: {text}")
            self._ended.append(_Ended(task.name, started_at, ExitCode.UNAVAILABLE, [text], failed=True))
            return
        timer = Timer(task.limit.total_seconds(), process.kill)
        timer.daemon = True
        timer.start()
        self._children.append(_Child(task, started_at, process, report, messages, files, time.monotonic(), timer))

    def _record_alone(self) -> None:
        """Record the runs that have ended on a connection of its own."""
        if not self._ended:
            return
        try:
            with connect(self._settings) as session, session.transaction(_LIMITS):
                self._record(session)
        except MaunticJobsError as error:
            self._log(f"schedule: the ends of watching and pruning are not recorded: {error}")
        self._ended.clear()

    def _record(self, session: Session) -> None:
        if not self._ended:
            return
        tasks, starts, codes, lines, failed = (list(column) for column in zip(*self._ended, strict=True))
        # The last line of a traceback names the error.
        errors = [scrub(each[-1]) if each else None for each in lines]
        columns = {"tasks": tasks, "starts": starts, "codes": codes, "errors": errors, "failed": failed}
        session.execute(_sql["record"], columns)

    def _claims(self) -> dict[str, object]:
        tasks = self._tasks.values()
        return {
            "claimed_by": self._by,
            "tasks": [task.name for task in tasks],
            "every": [task.every for task in tasks],
            "at": [task.at for task in tasks],
            "leases": [task.limit + _RECORDED_WITHIN for task in tasks],
        }


def _last_lines(file: IO[bytes]) -> list[str]:
    size = file.seek(0, 2)
    file.seek(max(0, size - _MAX_OUTPUT_BYTES))
    return [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
