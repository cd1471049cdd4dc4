"""Work on a backfill: its windows, one after the other, by as many processes on as many hosts as join in.

A window is claimed by the row of its run, which a unique index lets be there once; the run's success commits with what
it writes. So a process that is killed loses no window, and none that succeeded is run again.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, repeat

from mauntic_jobs.backfill.store import Backfill, pause
from mauntic_jobs.errors import (
    ConfigurationError,
    FencedError,
    MaunticJobsError,
    PlanOutdatedError,
    RefusedError,
    UnavailableError,
    UsageError,
)
from mauntic_jobs.installation import Installation
from mauntic_jobs.job import AnyJob, Fingerprint, Overlap
from mauntic_jobs.runner.claim import live_owner, release_dead
from mauntic_jobs.runner.request import Launcher, Report, Request
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.timekeeping.window import Window

_SHORT_POLL_SECONDS, _POLL_SECONDS = 0.03, 0.5

_sql = statements("backfills")


@dataclass(frozen=True)
class BackfillWork:
    """What one process needs to work on a backfill.

    `now` reads the clock, `log` shows a sentence to the user, and `stopped` says whether this process is to begin no
    further window. With `failed_only` windows that wait are left alone; with `at_most` none begins while so many of the
    backfill are being run, by whichever process.
    """

    backfill: Backfill
    job: AnyJob
    settings: Settings
    now: Callable[[], datetime]
    log: Callable[[str], None]
    failed_only: bool = False
    at_most: int | None = None
    stopped: Callable[[], bool] = lambda: False

    def run(self) -> Iterator[Report]:
        """Run windows until none is left for this process, and yield the report of each.

        Raises UnavailableError where the database stays away, and the error that all windows would meet: then the
        backfill is paused.
        """
        with Installation(self.settings, self.now()) as installation:
            while (window := self._next(installation)) is not None:
                report = run(self._request(installation, window))
                if report.answered:
                    continue
                self._note(installation, report)
                yield report

    def run_window(self, window: Window) -> Report | None:
        """Run one window, and return its report; None if it has been run, or the backfill is not active.

        A window that another process is running is waited for: that process may be dead. Raises as `run` does.
        """
        with Installation(self.settings, self.now()) as installation:
            while self._is_active(installation):
                asked = {"id": self.backfill.id, "window_start": window.start}
                if not installation.session.rows(_sql["running"], asked):
                    report = run(self._request(installation, window))
                    if not report.answered:
                        self._note(installation, report)
                        return report
                    if not installation.session.rows(_sql["running"], asked):
                        return None
                release_dead(installation.session, self.job.name, self.settings.takeover_after, self.log)
                time.sleep(_POLL_SECONDS)
        return None

    def _next(self, installation: Installation) -> Window | None:
        """Return the next window, once no live run of the job is under way; None if nothing is left to do."""
        waits_for: int | None = None
        # The last windows of the other processes are waited for, and short ones must not seem long.
        pauses = chain((_SHORT_POLL_SECONDS * 2**doubled for doubled in range(4)), repeat(_POLL_SECONDS))
        while not self.stopped() and self._is_active(installation):
            session = installation.session
            asked = {"id": self.backfill.id, "failed_only": self.failed_only}
            row = session.row(_sql["next"], asked)
            if row["window_start"] is None and not row["running"]:
                return None
            release_dead(session, self.job.name, self.settings.takeover_after, self.log)
            owner = live_owner(session, self.job.name)
            if row["window_start"] is not None and owner is None:
                return Window(row["window_start"], row["window_end"])
            if owner is not None and owner != waits_for:
                self.log(f"backfill {self.backfill.id}: waiting for run {owner} of {self.job.name}, which goes first")
                waits_for = owner
            time.sleep(next(pauses))
        return None

    def _is_active(self, installation: Installation) -> bool:
        me = {"id": self.backfill.id, "host": socket.gethostname(), "pid": os.getpid()}
        rows = installation.session.rows(_sql["touch"], me)
        return bool(rows) and rows[0]["state"] == "active"

    def _request(self, installation: Installation, window: Window) -> Request:
        asked = {"id": self.backfill.id, "window_start": window.start}
        planned = installation.session.rows(_sql["planned"], asked)
        return Request(
            job=self.job,
            window=window,
            coverage=window,
            options=self.job.options.from_ledger(self.backfill.options),
            settings=self.settings,
            launcher=Launcher.BACKFILL,
            now=self.now(),
            overlap=Overlap.WAIT,
            backfill=self.backfill.id,
            at_most=self.at_most,
            expects=Fingerprint(**planned[0]) if planned else None,
            log=self.log,
        )

    def _note(self, installation: Installation, report: Report) -> None:
        """Count a failure, and pause the backfill where the windows to come would fail alike."""
        error = report.error
        if isinstance(error, PlanOutdatedError):
            number = self.backfill.id
            pause(installation.session, number, f"its plan is outdated: {error}")
            advice = f"End the backfill with `mauntic-jobs backfill cancel {number}`, and make another plan."
            raise PlanOutdatedError(f"{error} {advice}")
        if error is None or isinstance(error, RefusedError | FencedError):
            return
        if isinstance(error, UnavailableError):
            raise error
        if isinstance(error, UsageError | ConfigurationError):
            pause(installation.session, self.backfill.id, f"all windows would fail: {error}")
            raise error
        self._count(installation, error)

    def _count(self, installation: Installation, error: MaunticJobsError) -> None:
        reason = f"as many runs failed as it may have failures, the last one with: {error}"
        installation.session.execute(_sql["count_failure"], {"id": self.backfill.id, "reason": reason})
