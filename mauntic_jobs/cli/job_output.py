"""How runs are shown: a line each, the rows that changed, what a guard objected to, a progress bar."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mauntic_jobs.cli.output import plural, print_json, print_line, print_table, say
from mauntic_jobs.errors import RefusedError
from mauntic_jobs.runner.backfill import exit_code
from mauntic_jobs.runner.request import Report, Request


def print_reports(request: Request, reports: Sequence[Report], *, json: bool, skip_ok: bool) -> None:
    """Print how the runs went, as data on stdout."""
    if json:
        print_json(
            {
                "job": request.job.name,
                "window": {"start": request.window.start, "end": request.window.end},
                "dry_run": request.dry_run,
                "exit_code": exit_code(list(reports), skip_ok=skip_ok),
                "runs": [_as_json(report) for report in reports],
            }
        )
        return
    for report in reports:
        if report.error is None:
            print_line(_as_line(report))
        if report.changes:
            print_table(report.changes)


def show_error(report: Report, *, json: bool) -> None:
    """Say on stderr why a run did not succeed."""
    if report.error is None:
        return
    say(f"{report.job} {report.window}: {report.error}")
    if isinstance(report.error, RefusedError) and report.error.rows and not json:
        print_table(report.error.rows, to_stderr=True)


@contextmanager
def progress(total: int, label: str, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """Show a progress bar on stderr for work of several parts, if stderr is a terminal; yield what advances it."""
    if total == 1 or quiet or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda: bar.advance(task)


def _as_line(report: Report) -> str:
    counted = ", ".join(_counter(name, value) for name, value in report.counters.items())
    run = f"run {report.run_id}" if report.run_id else "nothing written"
    attempts = f", attempt {report.attempt}" if report.attempt > 1 else ""
    return f"{report.job} {report.window} {report.status.value}: {counted} ({report.seconds:.1f} s, {run}{attempts})"


def _counter(name: str, value: int) -> str:
    return plural(value, name.removesuffix("s")) if name.endswith("s") else f"{value:,} {name}"


def _as_json(report: Report) -> dict[str, Any]:
    error: dict[str, Any] | None = None
    if report.error is not None:
        error = {"message": str(report.error)}
        if isinstance(report.error, RefusedError):
            error["rows"] = list(report.error.rows)
    return {
        "run_id": report.run_id,
        "window": {"start": report.window.start, "end": report.window.end},
        "status": report.status.value,
        "exit_code": report.exit_code,
        "attempt": report.attempt,
        "seconds": round(report.seconds, 3),
        "counters": dict(report.counters),
        "changes": list(report.changes),
        "error": error,
    }
