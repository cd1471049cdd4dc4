"""The subcommands of the scheduled jobs, made from the registry."""

import inspect
from dataclasses import replace
from typing import Annotated, Any

import typer

from mauntic_jobs.cli.documents.runs import JobJson
from mauntic_jobs.cli.framework.command import JsonOutput, command, set_signature
from mauntic_jobs.cli.framework.output import say
from mauntic_jobs.cli.framework.scheduled_jobs import job_as_stored
from mauntic_jobs.cli.job import options as job_options
from mauntic_jobs.cli.job.output import Shown, print_reports, progress, show, show_withheld
from mauntic_jobs.cli.job.stopped import stopped_text
from mauntic_jobs.cli.job.window import window_of
from mauntic_jobs.errors import ConfigurationError, ExitCode, Interrupted
from mauntic_jobs.job import Job, Overlap
from mauntic_jobs.jobs.plugins import RESERVED
from mauntic_jobs.jobs.registry import broken_jobs, jobs
from mauntic_jobs.runner.backfill import exit_code, run_all, split
from mauntic_jobs.runner.request import Launcher, Report, Request, silent
from mauntic_jobs.runner.slot_request import after_others
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import Unit

_WINDOW = "Window (at most one)"


def register_jobs(app: typer.Typer) -> None:
    """Add a subcommand for each job of the registry, and one that says why for each that cannot be used."""
    for job in jobs().values():
        _register(app, job)
    for name, reason in broken_jobs().items():
        if name not in jobs() and name not in RESERVED:
            _register_broken(app, name, reason)


def _register_broken(app: typer.Typer, name: str, reason: str) -> None:
    def refuse() -> None:
        raise ConfigurationError(f"The job {name} cannot be used: {reason}. Mend or remove its package.")

    summary = "Cannot be used: its package is broken."
    command(app, name, example=f"mauntic-jobs {name}", help=reason, short_help=summary)(refuse)


def _register(app: typer.Typer, declared: Job[Any]) -> None:
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
        slot: Annotated[
            str | None,
            typer.Option(
                metavar="TIME",
                help="A slot of the cron line, or `latest`; run once, however often it is asked for. For crontabs.",
                rich_help_panel=_WINDOW,
            ),
        ] = None,
        launcher: Annotated[Launcher | None, typer.Option(hidden=True)] = None,
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
        options = job_options.validated(declared.options, own)
        tell = silent if quiet else say
        by_line = launcher is None and not any((date, window, last, month))
        job = job_as_stored(declared, settings, tell, decides=by_line)
        named = window_of(job, now, date, window, last, month, slot=slot, launched=launcher is not None, tell=tell)
        request = Request(
            job=job,
            host_clock=clock.now if slot is not None and launcher is None else None,
            window=named.window,
            coverage=job.coverage(named.window, options, settings),
            options=options,
            settings=settings,
            launcher=launcher or (Launcher.CRON if slot else Launcher.CLI),
            now=now,
            slot=named.slot,
            claim_slot=slot is not None and not dry_run,
            overlap=overlap or Overlap.SKIP,
            dry_run=dry_run,
            tell=tell,
        )
        if request.claim_slot:
            request = after_others(request, jobs())
        shown = Shown(json=json, quiet=quiet, skip_ok=skip_ok)
        raise typer.Exit(_run(request, shown, waits=overlap is None))

    settings, *standard, _own = inspect.signature(run).parameters.values()
    if declared.unit is not Unit.MONTH:
        standard = [parameter for parameter in standard if parameter.name != "month"]
    set_signature(run, [settings, *job_options.parameters(declared.options), *standard])
    example = f"mauntic-jobs {declared.name} --last 3d --dry-run"
    described = {"help": declared.description, "short_help": declared.summary}
    command(app, declared.name, example=example, prints=JobJson, **described)(run)


def _run(request: Request, shown: Shown, *, waits: bool) -> ExitCode:
    parts = split(request)
    if len(parts) > 1:
        overlap = Overlap.WAIT if waits else request.overlap
        parts = [replace(part, launcher=Launcher.BACKFILL, overlap=overlap) for part in parts]
        shown = replace(shown, one_of_many=True)
    reports: list[Report] = []
    stopped: Interrupted | None = None
    with progress(len(parts), request.job.name, quiet=shown.quiet) as advance:
        try:
            for report in run_all(parts):
                reports.append(report)
                show(report, shown)
                advance()
        except Interrupted as signal:
            stopped = signal
    left = parts[len(reports) :]
    if shown.one_of_many and reports:
        show_withheld(reports, shown)
    if stopped is not None:
        say(stopped_text(request, stopped, reports, left), "warning")
    elif left:
        say(f"{request.job.name}: ended early; {len(left)} of {len(parts)} runs were not begun")
    code = exit_code(reports, skip_ok=shown.skip_ok) if stopped is None else stopped.exit_code
    if shown.json:
        print_reports(request, reports, code)
    return code
