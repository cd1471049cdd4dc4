"""`backfill plan` and `backfill apply`: what a backfill would change, and exactly that done later."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from mauntic_jobs.backfill.coverage import buckets
from mauntic_jobs.backfill.plan import BackfillRequest, PlannedWindow, Reprocess, make_plan
from mauntic_jobs.backfill.preview import DatabaseId, PreviewedWindow, check_first, database_of, preview
from mauntic_jobs.backfill.store import check_free, create, read_backfill
from mauntic_jobs.cli.backfill.options import (
    AllowShrink,
    Enqueued,
    From,
    Last,
    Month,
    NewestFirst,
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
from mauntic_jobs.cli.backfill.plan_file import as_document, planned_windows, read_plan, write_plan
from mauntic_jobs.cli.backfill.progress import OutputFlags, put_on_queue, work_on
from mauntic_jobs.cli.documents.backfills import BackfillRunJson
from mauntic_jobs.cli.documents.plan import BackfillPlanJson
from mauntic_jobs.cli.framework.command import JsonOutput, command
from mauntic_jobs.cli.framework.options import JobName
from mauntic_jobs.cli.framework.output import log, print_json, print_table
from mauntic_jobs.cli.job.options import Quiet
from mauntic_jobs.cli.job.output import progress
from mauntic_jobs.errors import RefusedError, UsageError
from mauntic_jobs.installation import Installation
from mauntic_jobs.job import AnyJob, JobOptions, Row
from mauntic_jobs.jobs.registry import find_job
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import Window
from mauntic_jobs.wording import plural

_MOST_SHOWN = 10


def register_plans(app: typer.Typer) -> None:
    """Add the commands to the group `backfill`."""
    example = "mauntic-jobs backfill plan aggregate-hourly --last 90d --out plan.json"
    command(app, "plan", example=example, prints=BackfillPlanJson)(plan_backfill)
    command(app, "apply", example="mauntic-jobs backfill apply plan.json", prints=BackfillRunJson)(apply_plan)


def plan_backfill(
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
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the plan to this file.")] = None,
    json: JsonOutput = False,
    quiet: Quiet = False,
) -> None:
    """Show what a backfill would change, window by window, and write it down for `backfill apply`. Changes nothing."""
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
    number = len(buckets(known, request.window))
    with connect(settings) as session, progress(2 * number, f"plan {job}", quiet=quiet or json) as advance:
        planned = make_plan(session, request, settings, now, advance)
        found = list(preview(session, request, settings, planned, advance))
        database = database_of(session)
    document = as_document(request, found, database, now)
    if out is not None:
        write_plan(out, document)
    if json:
        print_json(document)
    elif not quiet:
        _show(request, found, document["seconds"], out)


def apply_plan(
    settings: Settings,
    plan: Annotated[Path, typer.Argument(metavar="FILE", help="The plan that `backfill plan` has written.")],
    *,
    enqueued: Enqueued = False,
    json: JsonOutput = False,
    quiet: Quiet = False,
) -> None:
    """Do exactly what a plan says, as a backfill. It stops before a window that has changed since; exit 4 then."""
    document, now = read_plan(plan), clock.now()
    known = find_job(document["job"]).configured(settings)
    windows = planned_windows(document)
    _check_windows(plan, known, windows, now)
    request = BackfillRequest(
        job=known,
        window=Window(min(each.window.start for each in windows), max(each.window.end for each in windows)),
        options=_options(plan, known.options, document),
        reprocess=document["reprocess"],
        newest_first=document["newest_first"],
        parallel=document["parallel"],
        stop_after_failures=document["stop_after_failures"],
    )
    chosen, flags = [each for each in windows if each.skipped is None], OutputFlags(json=json, quiet=quiet)
    with Installation(settings, now) as installation:
        session = installation.session
        _check_database(plan, document, session)
        check_free(session, known.name, request.window)
        if not chosen:
            raise UsageError(f"{plan} has nothing to do: all of its {plural(len(windows), 'window')} are left out.")
        first = chosen[0]
        if first.expects is not None:
            check_first(session, known, request.options, settings, first.window, first.expects)
        if enqueued:
            # First, so that no backfill is recorded while Redis is away.
            installation.connect()
        backfill = read_backfill(session, create(session, request, windows))
        if enqueued:
            put_on_queue(installation, backfill, known, flags, failed_only=False)
            return
    raise typer.Exit(work_on(backfill, known, settings, flags, failed_only=False))


def _check_windows(plan: Path, job: AnyJob, windows: Sequence[PlannedWindow], now: datetime) -> None:
    """Raise UsageError for a plan without windows, or with one that cannot be run as it is planned."""
    if not windows:
        raise UsageError(f"{plan} has no windows. Make another plan.")
    for each in windows:
        if buckets(job, each.window) != [each.window]:
            raise UsageError(f"The window {each.window} of {plan} is no whole {job.bucket}. Make another plan.")
        if each.skipped is None and each.window.end > now:
            raise UsageError(
                f"The window {each.window} of {plan} is in the future or not over yet: leave it to the schedule."
            )
        if each.skipped is None and each.expects is None:
            raise UsageError(f"{plan} does not say what {each.window} looked like. Make another plan.")


def _options(plan: Path, model: type[JobOptions], document: BackfillPlanJson) -> JobOptions:
    try:
        return model.from_ledger(document["options"])
    except ValidationError as error:
        names = ", ".join(document["options"])
        problem = f"{document['job']} does not take the options of {plan} ({names}): {error.errors()[0]['msg']}."
        raise UsageError(f"{problem} Make another plan.") from None


def _check_database(plan: Path, document: BackfillPlanJson, session: Session) -> None:
    there, here = DatabaseId(**document["database"]), database_of(session)
    if there != here:
        raise RefusedError(
            f"{plan} is for the database {there.name} of the server {there.system}, and this is {here.name} of "
            f"{here.system}. Set DATABASE_URL to that one, or make a plan for this one."
        )


def _show(request: BackfillRequest, found: Sequence[PreviewedWindow], seconds: float | None, out: Path | None) -> None:
    print_table([_line(each) for each in found])
    previews = [each.preview for each in found if each.preview is not None]
    changes = [
        {
            "date": f"{each.planned.window.start:%Y-%m-%d}",
            "organization": str(row["organization_id"]),
            "type": row["kind"],
            "present": row["old_total"],
            "counted": row["new_total"],
            "withheld": row["withheld"],
        }
        for each in found
        if each.preview is not None
        for row in each.preview.largest
    ]
    changes.sort(key=_change, reverse=True)
    if changes:
        log(f"The groups that change most, {min(len(changes), _MOST_SHOWN)}:")
        print_table(changes[:_MOST_SHOWN])
    present, future = sum(each.present for each in previews), sum(each.future for each in previews)
    withheld = sum(each.withheld for each in previews)
    log(
        f"{request.job.name}: {plural(len(previews), 'window')} to rebuild, {present:,} events recorded now and "
        f"{future:,} then; {plural(withheld, 'group')} withheld; {_time(seconds)}"
    )
    if out is not None and previews:
        log(f"To do exactly that: mauntic-jobs backfill apply {out}")


def _change(row: Row) -> int:
    return abs(int(row["counted"]) - int(row["present"]))


def _time(seconds: float | None) -> str:
    return "no run tells how long that takes" if seconds is None else f"about {seconds:,.1f} s by the latest runs"


def _line(each: PreviewedWindow) -> Row:
    found = each.preview
    return {
        "window": str(each.planned.window),
        "found": each.planned.found.value,
        "events": None if found is None else found.events,
        "present": None if found is None else found.present,
        "future": None if found is None else found.future,
        "withheld": None if found is None else found.withheld,
        "seconds": each.seconds,
        "skipped": each.planned.skipped,
    }
