"""The subcommands of the scheduled jobs, made from the registry."""

import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from mauntic_jobs import clock
from mauntic_jobs.cli import job_options
from mauntic_jobs.cli.command import JsonOutput, command, set_signature
from mauntic_jobs.cli.job_output import Shown, print_reports, progress, show
from mauntic_jobs.cli.output import say
from mauntic_jobs.config import Settings
from mauntic_jobs.errors import ExitCode, UsageError
from mauntic_jobs.job import Job, Overlap
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.runner.backfill import exit_code, run_all, split
from mauntic_jobs.runner.request import Launcher, Report, Request, silent
from mauntic_jobs.scheduler.cron import latest_slot
from mauntic_jobs.window import Unit, Window, naive, parse_date, parse_last, parse_window

_WINDOW = "Window (at most one)"
_MONTH = re.compile(r"(?!0000)([0-9]{4})-(0[1-9]|1[0-2])")
_EARLIEST = datetime(1970, 1, 2, tzinfo=UTC)


def register_jobs(app: typer.Typer) -> None:
    """Add a subcommand for each job of the registry."""
    for job in JOBS.values():
        _register(app, job)


def window_of(
    job: Job[Any],
    now: datetime,
    date: str | None,
    window: str | None,
    last: str | None,
    month: str | None = None,
    *,
    tell: Callable[[str], None] = silent,
) -> tuple[Window, datetime | None]:
    """Return the window that the options name, and its slot if they name none: the job's latest slot decides then.

    `tell` gets to know of a window that has not ended.

    Raises UsageError for options that contradict each other and for windows that have not begun.
    """
    if sum(option is not None for option in (date, window, last, month)) > 1:
        names = "--date, --window, --last and --month" if job.unit is Unit.MONTH else "--date, --window and --last"
        raise UsageError(f"Give only one of {names}.")
    if date is not None:
        chosen = parse_date(date, now)
    elif window is not None:
        chosen = parse_window(window)
    elif last is not None:
        chosen = parse_last(last, now)
    elif month is not None:
        chosen = _parse_month(month)
    else:
        slot = latest_slot(job.cron, now)
        return Window.before(slot, job.unit), slot
    if chosen.start >= now:
        raise UsageError(f"The window {chosen} is in the future: it is {naive(now):%Y-%m-%dT%H:%M}Z now.")
    if chosen.start < _EARLIEST:
        raise UsageError(f"The window {chosen} starts before 1970: check the year.")
    if chosen.end > now:
        tell(f"The window {chosen} ends in the future: what has happened so far is counted.")
    # Days that have not begun hold nothing.
    return Window(chosen.start, min(chosen.end, Unit.DAY.after(now))), None


def _parse_month(text: str) -> Window:
    match = _MONTH.fullmatch(text.strip())
    if not match:
        raise UsageError(f"Cannot read {text!r} as a month: write it like 2026-10.")
    start = datetime(int(match[1]), int(match[2]), 1, tzinfo=UTC)
    return Window(start, Unit.MONTH.after(start))


def _register(app: typer.Typer, job: Job[Any]) -> None:
    def run(
        settings: Settings,
        *,
        date: Annotated[str | None, typer.Option(metavar="DATE", help="A UTC day.", rich_help_panel=_WINDOW)] = None,
        window: Annotated[
            str | None,
            typer.Option(metavar="START/END", help="Half-open, ISO 8601, UTC.", rich_help_panel=_WINDOW),
        ] = None,
        last: Annotated[
            str | None,
            typer.Option(metavar="TIME", help="Such as 6h or 3d, up to the last full hour.", rich_help_panel=_WINDOW),
        ] = None,
        month: Annotated[
            str | None, typer.Option(metavar="YYYY-MM", help="A UTC month.", rich_help_panel=_WINDOW)
        ] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing; say what would change.")] = False,
        overlap: Annotated[
            Overlap | None,
            typer.Option(
                help="What to do while another run is under way. Default: skip, or wait if the window is run in parts."
            ),
        ] = None,
        skip_ok: Annotated[bool, typer.Option("--skip-ok", help="Exit 0, not 75, when skipped.")] = False,
        json: JsonOutput = False,
        quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
        **own: Any,
    ) -> None:
        now = clock.now()
        options = job_options.validated(job.options, own)
        tell = silent if quiet else say
        chosen, slot = window_of(job, now, date, window, last, month, tell=tell)
        request = Request(
            job=job,
            window=chosen,
            coverage=job.coverage(chosen, options, settings),
            options=options,
            settings=settings,
            launcher=Launcher.CLI,
            now=now,
            slot=slot,
            overlap=overlap or Overlap.SKIP,
            dry_run=dry_run,
            tell=tell,
        )
        shown = Shown(json=json, quiet=quiet, skip_ok=skip_ok)
        raise typer.Exit(_run(request, shown, waits=overlap is None))

    settings, *standard, _own = inspect.signature(run).parameters.values()
    if job.unit is not Unit.MONTH:
        standard = [parameter for parameter in standard if parameter.name != "month"]
    set_signature(run, [settings, *job_options.parameters(job.options), *standard])
    example = f"mauntic-jobs {job.name} --last 3d --dry-run"
    command(app, job.name, example=example, help=job.description, short_help=job.summary)(run)


def _run(request: Request, shown: Shown, *, waits: bool) -> ExitCode:
    parts = split(request)
    if len(parts) > 1:
        overlap = Overlap.WAIT if waits else request.overlap
        parts = [replace(part, launcher=Launcher.BACKFILL, overlap=overlap) for part in parts]
    reports: list[Report] = []
    with progress(len(parts), request.job.name, quiet=shown.quiet) as advance:
        for report in run_all(parts):
            reports.append(report)
            show(report, shown)
            advance()
    if len(reports) < len(parts):
        say(f"{request.job.name}: stopped; {len(parts) - len(reports)} of {len(parts)} runs were not begun")
    code = exit_code(reports, skip_ok=shown.skip_ok)
    if shown.json:
        print_reports(request, reports, code)
    return code
