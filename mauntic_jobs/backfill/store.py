"""Records of backfills: started, shown, paused, resumed and canceled, whichever process works on them."""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from mauntic_jobs.errors import LockedError, UsageError
from mauntic_jobs.job import Row
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits, Session, json
from mauntic_jobs.timekeeping.window import Window

if TYPE_CHECKING:
    from mauntic_jobs.backfill.plan import BackfillRequest, PlannedWindow

# Processes show themselves each half second between windows, and every ten seconds during one.
_SILENT = timedelta(minutes=1)

_sql = statements("backfills")


class BackfillState(StrEnum):
    """How a backfill stands: `active` or `paused` while it is not over."""

    ACTIVE = "active"
    PAUSED = "paused"
    CANCELED = "canceled"
    ENDED = "ended"


class WindowState(StrEnum):
    """How a window of a backfill stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELED = "canceled"


@dataclass(frozen=True)
class Backfill:
    """A backfill, as the database has it.

    `counts` is how many windows stand how; `partial` of the done ones are done in part. `silent` is how long no process
    has worked on it.
    """

    id: int
    job: str
    window: Window
    options: dict[str, object]
    reprocess: Sequence[str]
    newest_first: bool
    parallel: int
    stop_after_failures: int
    state: BackfillState
    reason: str | None
    created_at: datetime
    worked_at: datetime
    ended_at: datetime | None
    host: str
    pid: int
    silent: timedelta
    partial: int
    counts: dict[WindowState, int]

    @property
    def abandoned(self) -> bool:
        """Whether it is active although no process works on it."""
        return self.is_silent_for(_SILENT)

    def is_silent_for(self, length: timedelta) -> bool:
        """Return whether it is active, and no process has worked on it for longer than that."""
        return self.state is BackfillState.ACTIVE and self.silent > length

    @property
    def left(self) -> int:
        """How many windows are still to be run, or are being run."""
        return self.counts[WindowState.WAITING] + self.counts[WindowState.RUNNING]

    @property
    def to_run(self) -> int:
        """How many windows are not left out."""
        return sum(self.counts.values()) - self.counts[WindowState.SKIPPED]


@dataclass(frozen=True)
class BackfillWindow:
    """One window of a backfill: `found` is how it stood when it was planned, `run` the run that decides about it."""

    window: Window
    found: str
    state: WindowState
    reason: str | None
    run: int | None
    counters: dict[str, int]


def create(session: Session, request: "BackfillRequest", plan: "Sequence[PlannedWindow]") -> int:
    """Record a backfill with its windows, and return its number. Raises LockedError if another one has part of them."""
    with session.transaction(Limits()):
        _check_free(session, request.job.name, Window(_start(plan), _end(plan)), None)
        values = {
            "job": request.job.name,
            "start": _start(plan),
            "end": _end(plan),
            "options": json(request.options.model_dump(mode="json", exclude_defaults=True)),
            "reprocess": [each.value for each in request.reprocess],
            "newest_first": request.newest_first,
            "parallel": request.parallel,
            "stop_after_failures": request.stop_after_failures,
            **_process(),
        }
        number = int(session.row(_sql["create"], values)["id"])
        windows = {
            "id": number,
            "starts": [each.window.start for each in plan],
            "ends": [each.window.end for each in plan],
            "found": [each.found.value for each in plan],
            "skipped": [each.skipped for each in plan],
            "inputs": [each.expects.input if each.expects else None for each in plan],
            "targets": [each.expects.target if each.expects else None for each in plan],
        }
        session.execute(_sql["add_windows"], windows)
    return number


def check_free(session: Session, job: str, window: Window) -> None:
    """Raise LockedError if a backfill of the job that is not over has part of the window."""
    with session.transaction(Limits()):
        _check_free(session, job, window, None)


def list_backfills(session: Session, *, only_open: bool = False, limit: int = 20) -> list[Backfill]:
    """Return backfills, latest first; with `only_open` those that are not over."""
    asked = {"id": None, "open": only_open, "limit": limit}
    return [_backfill(row) for row in session.rows(_sql["list"], asked)]


def read_backfill(session: Session, number: int) -> Backfill:
    """Return one backfill. Raises UsageError if there is none of that number."""
    rows = session.rows(_sql["list"], {"id": number, "open": False, "limit": 1})
    if not rows:
        raise UsageError(f"There is no backfill {number}. `mauntic-jobs backfill list` shows those there are.")
    return _backfill(rows[0])


def read_windows(session: Session, number: int) -> list[BackfillWindow]:
    """Return the windows of a backfill, oldest first."""
    return [
        BackfillWindow(
            Window(row["window_start"], row["window_end"]),
            row["found"],
            WindowState(row["state"]),
            row["reason"],
            row["run_id"],
            row["counters"] or {},
        )
        for row in session.rows(_sql["windows"], {"id": number})
    ]


def pause(session: Session, number: int, reason: str) -> Backfill:
    """Let no further window begin, and return the backfill; one that is paused stays so.

    Raises UsageError for one that is over.
    """
    session.execute(_sql["pause"], {"id": number, "reason": reason})
    backfill = read_backfill(session, number)
    if backfill.ended_at is not None:
        raise UsageError(f"Backfill {number} is {backfill.state}: there is nothing to pause.")
    return backfill


def cancel(session: Session, number: int, reason: str) -> Backfill:
    """End a backfill before its time, and return it; windows that are being run end by themselves.

    Raises UsageError for one that has ended.
    """
    session.execute(_sql["cancel"], {"id": number, "reason": reason})
    backfill = read_backfill(session, number)
    if backfill.state is not BackfillState.CANCELED:
        raise UsageError(f"Backfill {number} has {backfill.state}: there is nothing to cancel.")
    return backfill


def resume(session: Session, number: int) -> Backfill:
    """Let a backfill go on, its failed windows included, and return it.

    Raises UsageError for one that was canceled, LockedError if another backfill has part of its windows by now.
    """
    backfill = read_backfill(session, number)
    with session.transaction(Limits()):
        _check_free(session, backfill.job, backfill.window, number)
        if not session.execute(_sql["resume"], {"id": number, **_process()}):
            raise UsageError(
                f"Backfill {number} was canceled, and does not go on. What it left: mauntic-jobs backfill run "
                f"{backfill.job} --window {backfill.window}"
            )
    return read_backfill(session, number)


def finish(session: Session, number: int, *, failed_only: bool) -> Backfill:
    """End a backfill that has no window left, and return it; what only retried failed windows pauses it otherwise."""
    session.execute(_sql["finish"], {"id": number})
    if failed_only:
        session.execute(_sql["pause"], {"id": number, "reason": "only its failed windows were resumed"})
    return read_backfill(session, number)


def _check_free(session: Session, job: str, window: Window, but: int | None) -> None:
    session.rows(_sql["lock"], {"job": job})
    asked = {"job": job, "start": window.start, "end": window.end, "id": but}
    for row in session.rows(_sql["overlapping"], asked):
        other = Window(row["range_start"], row["range_end"])
        raise LockedError(
            f"Backfill {row['id']} of {job} ({row['state']}) has {other}, and so part of {window}. To go on with it: "
            f"mauntic-jobs backfill resume {row['id']}. To end it: mauntic-jobs backfill cancel {row['id']}."
        )


def _backfill(row: Row) -> Backfill:
    copied = (
        *("id", "job", "options", "reprocess", "newest_first", "parallel", "stop_after_failures", "reason", "host"),
        *("created_at", "worked_at", "ended_at", "pid", "partial"),
    )
    return Backfill(
        **{name: row[name] for name in copied},
        window=Window(row["range_start"], row["range_end"]),
        state=BackfillState(row["state"]),
        silent=row["silent"],
        counts={state: row[state.value] for state in WindowState},
    )


def _process() -> dict[str, object]:
    return {"host": socket.gethostname(), "pid": os.getpid()}


def _start(plan: "Sequence[PlannedWindow]") -> datetime:
    return min(each.window.start for each in plan)


def _end(plan: "Sequence[PlannedWindow]") -> datetime:
    return max(each.window.end for each in plan)
