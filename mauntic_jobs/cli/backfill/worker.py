"""`backfill work`: a process that runs windows of a backfill for another one."""

import os
from typing import Annotated

import typer

from mauntic_jobs.backfill.store import finish, read_backfill
from mauntic_jobs.backfill.work import BackfillWork
from mauntic_jobs.cli.backfill.options import FailedOnly, Number
from mauntic_jobs.cli.framework.command import command
from mauntic_jobs.cli.framework.output import log
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.jobs.registry import find_job
from mauntic_jobs.runner.request import silent
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import Window, parse_window


def register_worker(app: typer.Typer) -> None:
    """Add the command to the group `backfill`."""

    @command(app, "work", example="mauntic-jobs backfill work 7 --window 2026-10-05/2026-10-06")
    def work(
        settings: Settings,
        number: Number,
        *,
        window: Annotated[str | None, typer.Option(metavar="START/END", help="This window alone.")] = None,
        failed_only: FailedOnly = False,
        at_most: Annotated[
            int | None, typer.Option(min=1, metavar="N", help="Wait while so many windows are run, by any process.")
        ] = None,
        parent: Annotated[int, typer.Option(metavar="PID", help="End once this is not the parent process.")] = 0,
    ) -> None:
        """Run windows of an active backfill in this process; `--parallel` and `work` start it.

        Of one window the exit code says how it has ended: 0 done, 3 done in part, 1 failed.
        """
        one = None if window is None else parse_window(window)
        with connect(settings) as session:
            backfill = read_backfill(session, number)
        job = find_job(backfill.job).configured(settings)

        def stopped() -> bool:
            return parent > 0 and os.getppid() != parent

        own = BackfillWork(
            *(backfill, job, settings, clock.now, silent), failed_only=failed_only, at_most=at_most, stopped=stopped
        )
        if one is not None:
            raise typer.Exit(_run_window(own, one))
        for _ in own.run():
            pass


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
