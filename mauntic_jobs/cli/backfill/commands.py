"""`backfill`: windows of a job, rebuilt with a record of which are done."""

import typer

from mauntic_jobs.backfill.coverage import buckets
from mauntic_jobs.backfill.plan import BackfillRequest, PlannedWindow, Reprocess, make_plan
from mauntic_jobs.backfill.store import WindowState, check_free, create, read_backfill, resume
from mauntic_jobs.cli.backfill.options import (
    AllowShrink,
    Enqueued,
    FailedOnly,
    From,
    Last,
    Month,
    NewestFirst,
    Number,
    Orgs,
    Parallel,
    RangeOptions,
    Reprocessed,
    StopAfterFailures,
    To,
    WindowRange,
    options_of,
    range_of,
)
from mauntic_jobs.cli.backfill.output import as_planned, print_windows, window_json
from mauntic_jobs.cli.backfill.plans import register_plans
from mauntic_jobs.cli.backfill.progress import OutputFlags, put_on_queue, work_on
from mauntic_jobs.cli.backfill.records import register_records
from mauntic_jobs.cli.backfill.worker import register_worker
from mauntic_jobs.cli.documents.backfills import BackfillRunJson
from mauntic_jobs.cli.framework.command import JsonOutput, command, new_app
from mauntic_jobs.cli.framework.options import JobName
from mauntic_jobs.cli.framework.output import log, print_json
from mauntic_jobs.cli.job.options import DryRun, Quiet
from mauntic_jobs.cli.job.output import progress
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.installation import Installation
from mauntic_jobs.jobs.registry import find_job
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import Window
from mauntic_jobs.wording import plural

app = new_app("Rebuild many windows of a job, with a record of which are done: it goes on where it was stopped.")


@command(app, "run", example="mauntic-jobs backfill run aggregate-hourly --last 90d --dry-run", prints=BackfillRunJson)
def run_backfill(
    settings: Settings,
    job: JobName,
    *,
    start: From = None,
    end: To = None,
    window: WindowRange = None,
    last: Last = None,
    month: Month = None,
    reprocess: Reprocessed = None,
    newest_first: NewestFirst = False,
    parallel: Parallel = 1,
    stop_after_failures: StopAfterFailures = 5,
    org: Orgs = None,
    allow_shrink: AllowShrink = False,
    enqueued: Enqueued = False,
    dry_run: DryRun = False,
    json: JsonOutput = False,
    quiet: Quiet = False,
) -> None:
    """Rebuild the windows of a range that are missing, or that --reprocess names."""
    known, now = find_job(job).configured(settings), clock.now()
    request = BackfillRequest(
        job=known,
        window=range_of(known, now, RangeOptions(start, end, window, last, month)),
        options=options_of(known, {"org": org, "allow_shrink": allow_shrink}),
        reprocess=reprocess or [Reprocess.MISSING],
        newest_first=newest_first,
        parallel=parallel,
        stop_after_failures=stop_after_failures,
    )
    whole, flags = buckets(known, request.window), OutputFlags(json=json, quiet=quiet)
    with Installation(settings, now) as installation:
        session = installation.session
        if not dry_run:
            check_free(session, job, Window(whole[0].start, whole[-1].end))
        with progress(len(whole), f"look at {job}", quiet=quiet or json) as advance:
            plan = make_plan(session, request, settings, now, advance)
        chosen = sum(each.skipped is None for each in plan)
        if dry_run or not chosen:
            _show_plan(request, plan, chosen, flags, dry_run=dry_run)
            return
        if enqueued:
            # Where Redis is away, nothing is recorded.
            installation.connect()
        backfill = read_backfill(session, create(session, request, plan))
        if enqueued:
            put_on_queue(installation, backfill, known, flags, failed_only=False)
            return
    raise typer.Exit(work_on(backfill, known, settings, flags, failed_only=False))


@command(app, "resume", example="mauntic-jobs backfill resume 7 --failed-only", prints=BackfillRunJson)
def resume_backfill(
    settings: Settings,
    number: Number,
    *,
    failed_only: FailedOnly = False,
    enqueued: Enqueued = False,
    json: JsonOutput = False,
    quiet: Quiet = False,
) -> None:
    """Go on with a backfill that was paused, stopped or killed, or join one that is under way.

    Its failed windows are tried again.
    """
    flags = OutputFlags(json=json, quiet=quiet)
    with Installation(settings, clock.now()) as installation:
        known = find_job(read_backfill(installation.session, number).job).configured(settings)
        if enqueued:
            installation.connect()
        backfill = resume(installation.session, number)
        if enqueued:
            put_on_queue(installation, backfill, known, flags, failed_only=failed_only)
            return
    raise typer.Exit(work_on(backfill, known, settings, flags, failed_only=failed_only))


register_plans(app)
register_worker(app)
register_records(app)


def _show_plan(
    request: BackfillRequest, plan: list[PlannedWindow], chosen: int, flags: OutputFlags, *, dry_run: bool
) -> None:
    windows = as_planned(plan)
    if flags.json:
        document: BackfillRunJson = {
            "job": request.job.name,
            "window": {"start": windows[0].window.start, "end": windows[-1].window.end},
            "dry_run": dry_run,
            "exit_code": ExitCode.DONE,
            "backfill": None,
            "each": [window_json(each) for each in windows],
        }
        print_json(document)
    elif not flags.quiet:
        print_windows(windows)
    if not chosen:
        log(f"{request.job.name}: nothing to do in {plural(len(windows), 'window')}; --reprocess names others")
    elif not flags.quiet:
        waiting = sum(each.state is WindowState.WAITING for each in windows)
        log(f"{request.job.name}: {plural(waiting, 'window')} would be run; nothing was written")
