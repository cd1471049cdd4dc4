"""Output of runs: a line for each, changed rows, objections of the guard, a progress bar."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from mauntic_jobs.cli.documents.runs import ErrorJson, JobJson, ReportJson
from mauntic_jobs.cli.framework.output import counters_text, log, log_done, print_json, print_line, print_table
from mauntic_jobs.errors import ExitCode, RefusedError
from mauntic_jobs.jobs.shrink_guard import SHRINKS
from mauntic_jobs.runner.request import Report, Request
from mauntic_jobs.telemetry.logs import emit, structured
from mauntic_jobs.wording import plural


@dataclass(frozen=True)
class Shown:
    """How much of the runs is shown, and how; `one_of_many`: `show_withheld` prints the summary of all later."""

    json: bool
    quiet: bool
    skip_ok: bool
    one_of_many: bool = False


def show(report: Report, shown: Shown) -> None:
    """Print how a run went as soon as it has ended: its line on stdout, or why it did not succeed on stderr."""
    needless = report.answered or (shown.skip_ok and report.overlapped)
    if structured():
        _log(report, wanted=not shown.quiet or bool(report.problems) or (report.error is not None and not needless))
    elif report.error is not None:
        _log_error(report, shown, wanted=not (shown.quiet and needless))
    elif not shown.json and not (shown.one_of_many and report.summary):
        for problem in report.problems:
            log(f"{report.job} {report.window}: {problem}")
    if report.error is None and not shown.quiet and not shown.json:
        print_line(as_line(report))
        if report.changes:
            print_table(report.changes)
    for alert, problem in report.untold.items():
        log(f"{report.job} {report.window}: no channel took the alert {alert}: {problem}")


def show_withheld(reports: Sequence[Report], shown: Shown) -> None:
    """Print, for the runs of many windows, one table of the groups that were withheld, or one line that all is done."""
    if shown.json:
        return
    rows = [row for report in reports for row in report.summary]
    if not rows:
        done = sum(report.error is None for report in reports)
        if done == len(reports) and not shown.quiet:
            log_done(f"{reports[0].job}: {plural(done, 'window')} done")
        return
    groups, days = sum(row["groups"] for row in rows), len({row["bucket"] for row in rows})
    log(f"{reports[0].job}: {plural(groups, 'group')} of {plural(days, 'bucket')} withheld:", "warning")
    print_table(rows, to_stderr=True)
    bucket = str(rows[0]["bucket"])
    option = "--month" if len(bucket) == len("2026-10") else "--date"
    log(f"To see the groups of one: mauntic-jobs {reports[0].job} {option} {bucket} --dry-run --compare")
    if any(row["reason"] == SHRINKS for row in rows):
        log("If the lower values are right, run the same command with --allow-shrink.")


def _log_error(report: Report, shown: Shown, *, wanted: bool) -> None:
    if wanted and shown.one_of_many and report.summary:
        log(f"{report.job} {report.window}: nothing was written: every group that would change is withheld")
        return
    if wanted:
        log(f"{report.job} {report.window}: {report.error}")
    if isinstance(report.error, RefusedError) and report.error.rows and not shown.json:
        print_table(report.error.rows, to_stderr=True)


def _log(report: Report, *, wanted: bool) -> None:
    if not wanted:
        return
    fields = dict(as_json(report))
    kept = ("status", "exit_code", "attempt", "seconds", "counters")
    emit(
        "info" if report.error is None else "error",
        "run ended",
        run=report.run_id,
        job=report.job,
        window=str(report.window),
        problems="; ".join(report.problems) or None,
        error=None if report.error is None else str(report.error),
        **{name: fields[name] for name in kept},
    )


def print_reports(request: Request, reports: Sequence[Report], code: ExitCode) -> None:
    """Print how all the runs went, as one JSON document."""
    document: JobJson = {
        "job": request.job.name,
        "window": {"start": request.window.start, "end": request.window.end},
        "dry_run": request.dry_run,
        "exit_code": code,
        "runs": [as_json(report) for report in reports],
    }
    print_json(document)


@contextmanager
def progress(total: int, label: str, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """Show a progress bar on stderr for work of several parts, if stderr is a terminal; yield what advances it."""
    if total == 1 or quiet or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Lines on stdout appear above the bar if both go to the terminal, and are left alone if stdout goes elsewhere.
    redirect = sys.stdout.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=redirect) as bar:
        task = bar.add_task(label, total=total)
        yield lambda: bar.advance(task)


def as_line(report: Report) -> str:
    """Return how a run went, as one line."""
    run = f"run {report.run_id}" if report.run_id else "nothing written"
    attempts = f", attempt {report.attempt}" if report.attempt > 1 else ""
    ended = f"{report.job} {report.window} {report.status.value}"
    return f"{ended}: {counters_text(report.counters)} ({report.seconds:.1f} s, {run}{attempts})"


def as_json(report: Report) -> ReportJson:
    """Return how a run went, for JSON."""
    error: ErrorJson | None = None
    if report.error is not None:
        error = {"message": str(report.error)}
        if isinstance(report.error, RefusedError):
            error["rows"] = [dict(row) for row in report.error.rows]
    return {
        "run_id": report.run_id,
        "window": {"start": report.window.start, "end": report.window.end},
        "status": report.status,
        "exit_code": report.exit_code,
        "attempt": report.attempt,
        "seconds": round(report.seconds, 3),
        "counters": dict(report.counters),
        "changes": list(report.changes),
        "problems": list(report.problems),
        "untold": dict(report.untold),
        "error": error,
    }
