"""`coverage`: which days or months of a job are recorded, and which are not."""

import shlex
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Annotated

import typer

from mauntic_jobs.backfill.coverage import BucketCoverage, BucketState, bucket_of, buckets, judge
from mauntic_jobs.cli.backfill.options import From, Last, Orgs, RangeOptions, To, options_of, range_of
from mauntic_jobs.cli.coverage.calendar import calendar_lines
from mauntic_jobs.cli.documents.backfills import CoverageJson
from mauntic_jobs.cli.framework.command import JsonOutput, command, root
from mauntic_jobs.cli.framework.completion import job_names
from mauntic_jobs.cli.framework.output import log, print_json, print_line, print_rich, print_table
from mauntic_jobs.cli.job.output import progress
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.job import AnyJob
from mauntic_jobs.jobs.registry import find_job, jobs
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import Window

_LAST = "90d"
_BEHIND = (BucketState.MISSING, BucketState.FAILED, BucketState.STALE)
_NAMED = (*_BEHIND, BucketState.SHRUNK)


@command(root, "coverage", example="mauntic-jobs coverage aggregate-hourly --last 90d", prints=list[CoverageJson])
def coverage(
    settings: Settings,
    job: Annotated[
        str | None,
        typer.Argument(metavar="JOB", help="The job. Default: all that have windows.", autocompletion=job_names),
    ] = None,
    *,
    start: From = None,
    end: To = None,
    last: Last = None,
    org: Orgs = None,
    json: JsonOutput = False,
) -> None:
    """Show which days or months of a job are done, missing, failed, stale, empty or shrunk.

    Each is compared by counts with its raw events. Without a range it is the last 90 days. Exit 3 if one is missing,
    failed or stale.
    """
    now = clock.now()
    chosen = [find_job(job)] if job is not None else [each for each in jobs().values() if each.bucket is not None]
    if start is None and end is None and last is None:
        last = _LAST
    found = [_judged(settings, each, now, RangeOptions(start, end, last=last), org, quiet=json) for each in chosen]
    if json:
        print_json([_document(one, judged) for one, judged in zip(chosen, found, strict=True)])
    else:
        for one, judged in zip(chosen, found, strict=True):
            _show(one, judged, org or [])
    behind = any(each.state in _BEHIND for judged in found for each in judged)
    raise typer.Exit(ExitCode.PARTIAL if behind else ExitCode.DONE)


def _judged(
    settings: Settings, job: AnyJob, now: datetime, given: RangeOptions, org: list[str] | None, *, quiet: bool
) -> list[BucketCoverage]:
    wanted = buckets(job, range_of(job, now, given))
    options = options_of(job, {"org": org})
    judged = []
    with connect(settings) as session, progress(len(wanted), f"look at {job.name}", quiet=quiet) as advance:
        for each in judge(session, job, options, settings, now, wanted):
            judged.append(each)
            advance()
    return judged


def _show(job: AnyJob, judged: Sequence[BucketCoverage], org: Sequence[str]) -> None:
    print_line(f"{job.name} {Window(judged[0].bucket.start, judged[-1].bucket.end)}")
    for line in calendar_lines(bucket_of(job), judged):
        print_rich(line)
    groups = [list(alike) for _, alike in groupby(judged, lambda each: each.state)]
    rows = [_line(alike) for alike in groups if alike[0].state in _NAMED]
    if rows:
        print_table(rows)
    behind = [each for each in judged if each.state in _BEHIND]
    if behind:
        log(f"To rebuild them: {_command(job, behind, org)}")
    print_line("")


def _command(job: AnyJob, behind: Sequence[BucketCoverage], org: Sequence[str]) -> str:
    """Return the command that rebuilds buckets, which are in order."""
    words = ["mauntic-jobs", "backfill", "run", job.name]
    words += ["--window", str(Window(behind[0].bucket.start, behind[-1].bucket.end))]
    states = {each.state for each in behind}
    if BucketState.STALE in states:
        words += ["--reprocess", "stale", *(["--reprocess", "missing"] if states != {BucketState.STALE} else [])]
    return shlex.join([*words, *(word for each in org for word in ("--org", each))])


def _line(alike: Sequence[BucketCoverage]) -> dict[str, object]:
    state, window = alike[0].state, Window(alike[0].bucket.start, alike[-1].bucket.end)
    reasons = {each.reason for each in alike}
    return {
        "windows": str(window),
        "number": len(alike),
        "state": state.value,
        "reason": alike[0].reason if len(reasons) == 1 else f"the first: {alike[0].reason}",
    }


def _document(job: AnyJob, judged: Sequence[BucketCoverage]) -> CoverageJson:
    return {
        "job": job.name,
        "window": {"start": judged[0].bucket.start, "end": judged[-1].bucket.end},
        "buckets": [
            {
                "window": {"start": each.bucket.start, "end": each.bucket.end},
                "state": each.state,
                "reason": each.reason,
                "run": each.run,
                "events": each.events,
            }
            for each in judged
        ],
    }
