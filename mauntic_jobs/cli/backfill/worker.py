"""Processes that run windows of a backfill for another one: those of `--parallel`, and `backfill work`."""

import os
import sys
from typing import Annotated

import typer

from mauntic_jobs.backfill.store import finish, read_backfill
from mauntic_jobs.backfill.work import BackfillWork
from mauntic_jobs.cli.backfill.options import Number
from mauntic_jobs.cli.framework.command import command
from mauntic_jobs.cli.framework.output import log
from mauntic_jobs.cli.framework.signals import stop_on_signals
from mauntic_jobs.errors import ExitCode, Interrupted, MaunticJobsError
from mauntic_jobs.jobs.registry import find_job
from mauntic_jobs.runner.request import silent
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.telemetry.logs import stay
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import Window, parse_window


def register_worker(app: typer.Typer) -> None:
    """Add the command to the group `backfill`."""

    @command(app, "work", example="mauntic-jobs backfill work 7 --window 2026-10-05/2026-10-06")
    def work(
        settings: Settings,
        number: Number,
        *,
        window: Annotated[str, typer.Option(metavar="START/END", help="The window.")],
        at_most: Annotated[
            int | None, typer.Option(min=1, metavar="N", help="Wait while so many windows are run, by any process.")
        ] = None,
    ) -> None:
        """Run one window of an active backfill; `work` starts it for each that comes by BullMQ.

        The exit code says how it has ended: 0 done, 3 done in part, 1 failed.
        """
        raise typer.Exit(_run_window(_work(settings, number, at_most=at_most), parse_window(window)))


def work_beside(settings: Settings, number: int, parent: int, *, failed_only: bool) -> None:
    """Run windows of a backfill until none is left, as one of the processes of `--parallel`.

    Exits with an ExitCode. What becomes of the windows is in the ledger, where the process `parent` reads it. Once
    `parent` has ended, no further window begins.
    """
    # So that Ctrl-C reaches the parent alone, which then ends this one.
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    stay(settings)
    try:
        with stop_on_signals():
            own = _work(settings, number, failed_only=failed_only, parent=parent)
            for _ in own.run():
                pass
    except MaunticJobsError as error:
        log(f"mauntic-jobs: {error}", "error")
        sys.exit(error.exit_code)
    except Interrupted as signal:
        sys.exit(signal.exit_code)


def _work(
    settings: Settings, number: int, *, at_most: int | None = None, failed_only: bool = False, parent: int | None = None
) -> BackfillWork:
    def stopped() -> bool:
        return parent is not None and os.getppid() != parent

    with connect(settings) as session:
        backfill = read_backfill(session, number)
    job = find_job(backfill.job).configured(settings)
    return BackfillWork(
        *(backfill, job, settings, clock.now, silent), failed_only=failed_only, at_most=at_most, stopped=stopped
    )


def _run_window(work: BackfillWork, window: Window) -> ExitCode:
    report = work.run_window(window)
    with connect(work.settings) as session:
        finish(session, work.backfill.id, failed_only=False)
    if report is None:
        return ExitCode.DONE
    if report.error is not None:
        log(f"{report.job} {report.window}: {report.error}", "error")
        return ExitCode.FAILED
    return ExitCode.PARTIAL if report.partial else ExitCode.DONE
