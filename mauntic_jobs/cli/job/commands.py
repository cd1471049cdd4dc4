"""The subcommands of the scheduled jobs, made from the registry."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import typer

from mauntic_jobs.cli.documents.runs import JobJson
from mauntic_jobs.cli.framework.command import JsonOutput, command, set_signature
from mauntic_jobs.cli.framework.output import log
from mauntic_jobs.cli.framework.scheduled_jobs import job_as_stored
from mauntic_jobs.cli.job import options as job_options
from mauntic_jobs.cli.job.output import Shown, print_reports, progress, show, show_withheld
from mauntic_jobs.cli.job.stopped import stopped_text
from mauntic_jobs.cli.job.window import WindowOptions, window_of
from mauntic_jobs.errors import ConfigurationError, ExitCode, Interrupted
from mauntic_jobs.job import AnyJob, JobOptions, Overlap
from mauntic_jobs.jobs.plugins import RESERVED
from mauntic_jobs.jobs.registry import broken_jobs, jobs
from mauntic_jobs.runner.backfill import run_all, split
from mauntic_jobs.runner.request import Launcher, Report, Request, exit_code, silent
from mauntic_jobs.runner.slot_request import after_others
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import Unit


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


def _register(app: typer.Typer, declared: AnyJob) -> None:
    def run(
        settings: Settings,
        *,
        date: job_options.Date = None,
        window: job_options.WindowRange = None,
        last: job_options.Last = None,
        month: job_options.Month = None,
        slot: job_options.Slot = None,
        launcher: Annotated[Launcher | None, typer.Option(hidden=True)] = None,
        dry_run: job_options.DryRun = False,
        overlap: job_options.OverlapPolicy = None,
        skip_ok: job_options.SkipOk = False,
        json: JsonOutput = False,
        quiet: job_options.Quiet = False,
        **own: object,
    ) -> None:
        options = job_options.validated(declared.options, own)
        named = WindowOptions(date, window, last, month, slot)
        request = _request(declared, settings, options, named, launcher, silent if quiet else log, dry_run=dry_run)
        shown = Shown(json=json, quiet=quiet, skip_ok=skip_ok)
        raise typer.Exit(_run(request, overlap, shown))

    settings, *standard, _own = inspect.signature(run).parameters.values()
    if declared.unit is not Unit.MONTH:
        standard = [parameter for parameter in standard if parameter.name != "month"]
    set_signature(run, [settings, *job_options.parameters(declared.options), *standard])
    example = f"mauntic-jobs {declared.name} --last 3d --dry-run"
    described = {"help": declared.description, "short_help": declared.summary}
    command(app, declared.name, example=example, prints=JobJson, **described)(run)


def _request(
    declared: AnyJob,
    settings: Settings,
    options: JobOptions,
    named: WindowOptions,
    launcher: Launcher | None,
    log: Callable[[str], None],
    *,
    dry_run: bool,
) -> Request:
    now = clock.now()
    job = job_as_stored(declared, settings, log, decides=launcher is None and named.by_cron_line)
    window, slot = window_of(job, now, named, launched=launcher is not None, log=log)
    request = Request(
        job=job,
        host_clock=clock.now if named.slot is not None and launcher is None else None,
        window=window,
        coverage=job.coverage(window, options, settings),
        options=options,
        settings=settings,
        launcher=launcher or (Launcher.CRON if named.slot else Launcher.CLI),
        now=now,
        slot=slot,
        claim_slot=named.slot is not None and not dry_run,
        dry_run=dry_run,
        log=log,
    )
    return after_others(request, jobs()) if request.claim_slot else request


def _run(request: Request, overlap: Overlap | None, shown: Shown) -> ExitCode:
    parts = _parts(request, overlap)
    reports, stopped = _make(parts, replace(shown, one_of_many=len(parts) > 1))
    left = parts[len(reports) :]
    code = exit_code(reports, skip_ok=shown.skip_ok) if stopped is None else stopped.exit_code
    if shown.json:
        print_reports(request, reports, code)
    if stopped is not None:
        text = stopped_text(request, stopped, reports, left)
        log(text, "warning")
    elif left:
        log(f"{request.job.name}: ended early; {len(left)} of {len(parts)} runs were not begun")
    return code


def _parts(request: Request, overlap: Overlap | None) -> list[Request]:
    """Return the runs to make, oldest first: those of a backfill wait for others, unless the operator decides."""
    parts = split(request)
    if len(parts) == 1:
        return [replace(request, overlap=overlap or Overlap.SKIP)]
    return [replace(part, launcher=Launcher.BACKFILL, overlap=overlap or Overlap.WAIT) for part in parts]


def _make(parts: list[Request], shown: Shown) -> tuple[list[Report], Interrupted | None]:
    """Make the runs and show each; return their reports, and the signal that stopped them, if one did."""
    reports: list[Report] = []
    stopped: Interrupted | None = None
    with progress(len(parts), parts[0].job.name, quiet=shown.quiet) as advance:
        try:
            for report in run_all(parts):
                reports.append(report)
                show(report, shown)
                advance()
        except Interrupted as signal:
            stopped = signal
    if shown.one_of_many and reports:
        show_withheld(reports, shown)
    return reports, stopped
