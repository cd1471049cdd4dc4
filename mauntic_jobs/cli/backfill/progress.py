"""Progress of a backfill in this process: a bar on a terminal, a log line a window elsewhere, and the end."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from mauntic_jobs.backfill.enqueue import enqueue
from mauntic_jobs.backfill.parallel import Workers
from mauntic_jobs.backfill.store import Backfill, BackfillWindow, WindowState, finish, read_backfill, read_windows
from mauntic_jobs.backfill.work import BackfillWork
from mauntic_jobs.cli.backfill.output import (
    backfill_json,
    ended_window,
    exit_code,
    log_window,
    print_windows,
    summary,
    window_json,
)
from mauntic_jobs.cli.backfill.worker import work_beside
from mauntic_jobs.cli.documents.backfills import BackfillRunJson
from mauntic_jobs.cli.framework.output import log, print_json
from mauntic_jobs.cli.job.output import progress
from mauntic_jobs.errors import ExitCode, Interrupted, MaunticJobsError
from mauntic_jobs.installation import Installation
from mauntic_jobs.job import AnyJob
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.telemetry.logs import stay
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.wording import plural


@dataclass(frozen=True)
class OutputFlags:
    """How much of a backfill is shown, and how."""

    json: bool
    quiet: bool


def work_on(backfill: Backfill, job: AnyJob, settings: Settings, flags: OutputFlags, *, failed_only: bool) -> ExitCode:
    """Work on a backfill until nothing is left to do, and show it; return the command's exit code.

    A signal ends it as well: then the message has the command that goes on.
    """
    settings = stay(settings)
    log(f"backfill {backfill.id}: {_to_do(backfill, failed_only=failed_only)} of {backfill.job} {backfill.window}")
    code: ExitCode | None = None
    try:
        code = _work(backfill, job, settings, flags, failed_only=failed_only)
    except Interrupted as signal:
        code = signal.exit_code
        log(f"backfill {backfill.id}: {signal}", "warning")
    except MaunticJobsError:
        log(f"backfill {backfill.id}: ended early. To go on: mauntic-jobs backfill resume {backfill.id}", "warning")
        raise
    with connect(settings) as session:
        if code is None:
            finish(session, backfill.id, failed_only=failed_only)
        after, windows = read_backfill(session, backfill.id), read_windows(session, backfill.id)
    code = exit_code(after) if code is None else code
    if flags.json:
        _print_document(after, windows, code)
    elif not flags.quiet:
        print_windows(windows)
    log(summary(after), "info" if code is ExitCode.DONE else "warning")
    return code


def put_on_queue(
    installation: Installation, backfill: Backfill, job: AnyJob, flags: OutputFlags, *, failed_only: bool
) -> None:
    """Put the windows that are left on the job's queue, and show the backfill."""
    number = enqueue(installation, job, backfill, failed_only=failed_only)
    if flags.json:
        _print_document(backfill, read_windows(installation.session, backfill.id), ExitCode.DONE)
        return
    log(
        f"backfill {backfill.id}: {plural(number, 'window')} on the queue {job.queue}. To see how far it is: "
        f"mauntic-jobs backfill show {backfill.id}"
    )


def _work(
    backfill: Backfill, job: AnyJob, settings: Settings, flags: OutputFlags, *, failed_only: bool
) -> ExitCode | None:
    """Work until nothing is left to do; return the exit code of a process that ended before, if one did."""
    workers: Workers | None = None
    if backfill.parallel > 1:
        target = partial(work_beside, failed_only=failed_only)
        workers = Workers(backfill.id, backfill.parallel, settings, target)
        ends = workers.watch()
    else:
        ends = _alone(BackfillWork(backfill, job, settings, clock.now, log, failed_only=failed_only))
    before = backfill.to_run - _left(backfill, failed_only=failed_only)
    silently = flags.quiet or sys.stderr.isatty()
    with progress(backfill.to_run, f"{backfill.job} {backfill.window}", quiet=flags.quiet) as advance:
        for _ in range(before):
            advance()
        for ended, each in enumerate(ends, before + 1):
            if not silently or each.state is WindowState.FAILED:
                log_window(backfill, each, ended)
            advance()
    return workers.code if workers is not None and workers.code is not ExitCode.DONE else None


def _alone(work: BackfillWork) -> Iterator[BackfillWindow]:
    for report in work.run():
        yield ended_window(report)


def _left(backfill: Backfill, *, failed_only: bool) -> int:
    failed = backfill.counts[WindowState.FAILED]
    return failed if failed_only else backfill.left + failed


def _to_do(backfill: Backfill, *, failed_only: bool) -> str:
    return f"{_left(backfill, failed_only=failed_only):,} of {backfill.to_run:,} windows to run"


def _print_document(backfill: Backfill, windows: list[BackfillWindow], code: ExitCode) -> None:
    document: BackfillRunJson = {
        "job": backfill.job,
        "window": {"start": backfill.window.start, "end": backfill.window.end},
        "dry_run": False,
        "exit_code": code,
        "backfill": backfill_json(backfill),
        "each": [window_json(each) for each in windows],
    }
    print_json(document)
