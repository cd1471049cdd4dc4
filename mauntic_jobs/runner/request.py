"""Requests to the runner, and its reports."""

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from mauntic_jobs.errors import ExitCode, LockedError, MaunticJobsError, SlotClaimedError
from mauntic_jobs.job import AnyJob, Fingerprint, JobOptions, Overlap, Row
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.timekeeping.window import Window


class Launcher(StrEnum):
    """Who started a run."""

    CLI = "cli"
    CRON = "cron"
    SCHEDULE = "schedule"
    LOOP = "loop"
    BACKFILL = "backfill"
    BULLMQ = "bullmq"
    DEMO = "demo"


class Status(StrEnum):
    """How a run stands in the ledger, and, for a rehearsal, that it is none of the ledger's business."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    SKIPPED = "skipped"
    LOST = "lost"
    MISSED = "missed"
    SUPERSEDED = "superseded"
    DRY_RUN = "dry-run"


def silent(_message: str) -> None:
    """Drop the message."""


@dataclass(frozen=True)
class Request:
    """One run to be made: `job` for `window`, with `coverage` the whole buckets that it rebuilds.

    `now` is the instant of asking. `slot` is the cron slot, if the run answers one; with `claim_slot` only if it is not
    claimed yet. With `host_clock` that is compared with the database's clock first. `befores` are the jobs that should
    have covered the window before: what they have not covered goes into the ledger. `log` shows a sentence to the user.
    `backfill` numbers the backfill whose window it is, and `expects` is how its plan has found it; it waits while
    `at_most` windows of the backfill are being run. `host` and `pid` name the owner in the ledger.
    """

    job: AnyJob
    window: Window
    coverage: Window
    options: JobOptions
    settings: Settings
    launcher: Launcher
    now: datetime
    slot: datetime | None = None
    claim_slot: bool = False
    host_clock: Callable[[], datetime] | None = None
    befores: Sequence[AnyJob] = ()
    overlap: Overlap = Overlap.SKIP
    backfill: int | None = None
    at_most: int | None = None
    expects: Fingerprint | None = None
    dry_run: bool = False
    log: Callable[[str], None] = silent
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)


@dataclass(frozen=True)
class Report:
    """How a run ended. `run_id` is None for a rehearsal, and where the ledger could not be reached.

    `summary` are the totals of groups that were withheld, by bucket and reason. `untold` are the alerts that no
    channel took, with the reason.
    """

    job: str
    window: Window
    status: Status
    run_id: int | None = None
    attempt: int = 1
    seconds: float = 0.0
    counters: Mapping[str, int] = field(default_factory=dict)
    changes: Sequence[Row] = ()
    partial: bool = False
    implausible: bool = False
    withheld: int = 0
    problems: Sequence[str] = ()
    summary: Sequence[Mapping[str, Any]] = ()
    error: MaunticJobsError | None = None
    untold: Mapping[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> ExitCode:
        """The exit code that this run alone would give a command."""
        if self.error is not None:
            return self.error.exit_code
        if self.partial or self.implausible:
            return ExitCode.PARTIAL
        return ExitCode.ALERT_UNDELIVERABLE if self.untold else ExitCode.DONE

    @property
    def overlapped(self) -> bool:
        """Whether the run was left out because another one was under way."""
        return self.status is Status.SKIPPED and isinstance(self.error, LockedError)

    @property
    def answered(self) -> bool:
        """Whether there was nothing to do, because another run has claimed the slot or the window."""
        return isinstance(self.error, SlotClaimedError)


def exit_code(reports: list[Report], *, skip_ok: bool = False) -> ExitCode:
    """Return the exit code of a command that made these runs: the most serious of theirs.

    `skip_ok` makes a run that was skipped because another one was under way count as done.
    """
    codes = {ExitCode.DONE if skip_ok and report.overlapped else report.exit_code for report in reports}
    mild = [ExitCode.REFUSED, ExitCode.PARTIAL, ExitCode.TRY_LATER, ExitCode.ALERT_UNDELIVERABLE, ExitCode.DONE]
    serious = [code for code in codes if code not in mild]
    return next(iter(serious or [code for code in mild if code in codes]), ExitCode.DONE)
