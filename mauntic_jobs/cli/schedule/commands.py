"""`schedule`: the jobs' schedule, and a run of the jobs that are due."""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from itertools import groupby
from typing import Annotated

import typer

from mauntic_jobs.alerts.notify import Notified
from mauntic_jobs.cli.documents.runs import DueReportJson, PassedOverJson, RoundJson
from mauntic_jobs.cli.documents.schedule import SlotJson, StandingJson
from mauntic_jobs.cli.framework.clock_watch import watch_beside, watcher
from mauntic_jobs.cli.framework.command import JsonOutput, command, new_app
from mauntic_jobs.cli.framework.completion import job_names
from mauntic_jobs.cli.framework.output import log, print_json, print_table
from mauntic_jobs.cli.framework.scheduled_jobs import jobs_as_stored, name_broken_jobs, scheduled_jobs
from mauntic_jobs.cli.job.output import Shown, as_json, show
from mauntic_jobs.cli.schedule import export as schedule_export
from mauntic_jobs.cli.schedule.bullmq import register_bullmq
from mauntic_jobs.cli.schedule.pause import register_pause
from mauntic_jobs.cli.schedule.settings import register_settings
from mauntic_jobs.errors import ExitCode, Interrupted
from mauntic_jobs.installation import Installation
from mauntic_jobs.job import Row
from mauntic_jobs.jobs.registry import find_job
from mauntic_jobs.runner.request import Launcher, Report, exit_code
from mauntic_jobs.scheduler.due import Round
from mauntic_jobs.scheduler.idle_stamp import write_stamp
from mauntic_jobs.scheduler.plan import passed_lines
from mauntic_jobs.scheduler.upkeep_runner import UpkeepRunner
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.telemetry import stderr
from mauntic_jobs.telemetry.logs import stay
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import parse_duration
from mauntic_jobs.wording import plural

app = new_app("When the jobs run, and running what is due. Without a command: `schedule list`.", default="list")
app.add_typer(schedule_export.app, name="export")
register_bullmq(app)
register_settings(app)
register_pause(app)


@command(app, "list", example="mauntic-jobs schedule list", prints=list[StandingJson])
def list_schedule(settings: Settings, *, json: JsonOutput = False) -> None:
    """Show each job's cron line, next slot and latest run, and what was missed."""
    from mauntic_jobs.cli.schedule.table import as_json as standing_as_json, print_overview, print_tasks
    from mauntic_jobs.scheduler.overview import read_overview, read_tasks

    scheduled = scheduled_jobs(settings)
    with connect(settings) as session:
        standings = read_overview(Installation(settings, clock.now(), list(scheduled.values()), session=session))
        tasks = read_tasks(session, settings, clock.now())
    if json:
        print_json([standing_as_json(standing) for standing in standings])
    else:
        print_overview(standings)
        print_tasks(tasks)
    name_broken_jobs()


@command(app, "next", example="mauntic-jobs schedule next -n 5 --job aggregate-hourly", prints=list[SlotJson])
def next_slots(
    settings: Settings,
    *,
    number: Annotated[int, typer.Option("--number", "-n", min=1, max=100_000, metavar="N", help="How many.")] = 10,
    job: Annotated[str | None, typer.Option(metavar="JOB", help="Only this job.", autocompletion=job_names)] = None,
    json: JsonOutput = False,
) -> None:
    """Show the coming slots. Needs no database: if one is configured, what it sets counts."""
    from mauntic_jobs.scheduler.overview import upcoming

    scheduled = jobs_as_stored(settings)
    chosen = [scheduled[find_job(job).name]] if job else list(scheduled.values())
    rows: list[SlotJson] = [{"slot": slot, "job": each.name} for slot, each in upcoming(chosen, clock.now(), number)]
    if json:
        print_json(rows)
    else:
        print_table(rows)


@command(app, "run", example="mauntic-jobs schedule run", prints=RoundJson)
def run_due(
    settings: Settings,
    *,
    loop: Annotated[bool, typer.Option("--loop", help="Stay, and run each slot at its time.")] = False,
    drain_timeout: Annotated[
        str, typer.Option(metavar="TIME", help="With --loop: how long runs may go on after SIGTERM.")
    ] = "25s",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Run nothing; say what is due.")] = False,
    json: JsonOutput = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Run every slot that is due and not claimed, then exit; with --loop, go on."""
    if loop:
        raise typer.Exit(_run_loop(settings, parse_duration(drain_timeout)))
    scheduled = scheduled_jobs(settings)
    told: list[Notified] = []
    watch_ledger = watcher(list(scheduled.values()), settings, told)
    upkeep = UpkeepRunner(settings, Launcher.SCHEDULE, log)
    looked = Round(
        *(scheduled, settings, clock.now, log),
        dry_run=dry_run,
        watch=watch_ledger,
        upkeep=upkeep.start_due,
        task_slots=upkeep.next_slots,
    )
    shown = Shown(json=json, quiet=quiet, skip_ok=False)
    reports: list[Report] = []
    try:
        with upkeep:
            for report in looked.run():
                reports.append(report)
                if not dry_run:
                    show(report, shown)
    except Interrupted as signal:
        ended = f"{plural(len(reports), 'run')} ended before"
        log(f"schedule: {signal}; {ended}. What is left is due again. To go on: mauntic-jobs schedule run", "warning")
        _print_round(looked, reports, shown, signal.exit_code)
        raise typer.Exit(signal.exit_code) from None
    code = _round_code(reports, untold=upkeep.undeliverable or any(each.untold for each in told))
    if dry_run and reports and not json:
        print_table([_planned(looked, report) for report in reports])
    _print_round(looked, reports, shown, code)
    if looked.idle_until is not None and code == ExitCode.DONE and not (settings.embedded or stderr.has_written()):
        write_stamp(looked.idle_until)
    raise typer.Exit(code)


def _run_loop(settings: Settings, drain_timeout: timedelta) -> ExitCode:
    # It stays: once it needs this, the files may be those of a later version.
    import mauntic_jobs.ops.monitor.watch  # noqa: F401
    from mauntic_jobs.cli.framework.scraping import Scraper
    from mauntic_jobs.scheduler.loop import Loop

    scheduled = scheduled_jobs(settings)
    settings = stay(settings)
    name_broken_jobs()
    watch = partial(watch_beside, list(scheduled.values()), settings)
    with stderr.in_background():
        return Loop(scheduled, settings, clock.now, log, drain_timeout, Scraper(settings).numbers, watch).run()


def _round_code(reports: list[Report], *, untold: bool) -> ExitCode:
    """Return the exit code of a round; `untold` if there were alerts that no channel took."""
    broken = name_broken_jobs()
    code = exit_code(reports) or (ExitCode.PARTIAL if broken else ExitCode.DONE)
    return code or (ExitCode.ALERT_UNDELIVERABLE if untold else ExitCode.DONE)


def _planned(looked: Round, report: Report) -> Row:
    """Return what a rehearsal shows of a slot: the data that its run covers, as whole buckets."""
    job = looked.jobs[report.job]
    covers = job.coverage(report.window, job.options(), looked.settings)
    waits = "" if report.error is None else str(report.error)
    return {"job": report.job, "window": str(report.window), "covers": str(covers), "waits": waits}


def _print_round(looked: Round, reports: Sequence[Report], shown: Shown, code: ExitCode) -> None:
    for name, group in groupby(looked.passed, lambda item: item[0]):
        for line in passed_lines(name, [passed for _, passed in group]):
            log(line)
    if shown.json:
        passed_over: list[PassedOverJson] = [
            {"job": name, "slot": passed.slot, "status": passed.status, "reason": passed.reason}
            for name, passed in looked.passed
        ]
        runs: list[DueReportJson] = [{"job": report.job, **as_json(report)} for report in reports]
        document: RoundJson = {"exit_code": code, "runs": runs, "passed_over": passed_over}
        print_json(document)
    elif not reports and not shown.quiet and not code:
        log("nothing is due")
