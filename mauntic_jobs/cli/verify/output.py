"""Output of `verify`: what differs, a line each, and what to do about it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from mauntic_jobs.backfill.verify import VerifiedBucket
from mauntic_jobs.cli.documents.verify import FigureJson, VerifiedBucketJson, VerifiedJobJson
from mauntic_jobs.cli.framework.output import log, print_table
from mauntic_jobs.job import AnyJob, BucketFigures, Row
from mauntic_jobs.jobs.shrink_guard import SHRINKS
from mauntic_jobs.timekeeping.window import Unit, Window
from mauntic_jobs.wording import plural

_MAX_PROBLEMS = 5


@dataclass(frozen=True)
class VerifiedJob:
    """The figures of one job, bucket by bucket."""

    job: AnyJob
    buckets: Sequence[VerifiedBucket]

    @property
    def wrong(self) -> list[VerifiedBucket]:
        """The buckets that differ, after a repair if there was one."""
        return [each for each in self.buckets if each.error is None and each.wrong]

    @property
    def window(self) -> Window:
        """The time from the first bucket that differs to the end of the last one; there must be one."""
        return Window(self.wrong[0].bucket.start, self.wrong[-1].bucket.end)


def show(found: VerifiedJob, *, repair: bool, again: Sequence[str]) -> None:
    """Print what differs, and say on stderr what was found, what was repaired, and the command that repairs.

    `again` are the words of the command line that limit it.
    """
    rows = [_line(found.job, each.bucket, row) for each in found.buckets for row in _standing(each)]
    if rows:
        print_table(rows)
    for each in [each for each in found.buckets if each.error is not None]:
        log(f"{found.job.name} {each.bucket} could not be compared: {each.error}", "warning")
    log(_sentence(found), "warning" if found.wrong else "info")
    if repair:
        _show_repair(found)
    elif found.wrong:
        log(f"To repair them: {command(found, again)}")


def command(found: VerifiedJob, again: Sequence[str]) -> str:
    """Return the command that repairs what differs."""
    start, end = str(found.window).split("/")
    words = ["mauntic-jobs", "verify", found.job.name, "--from", start, "--to", end]
    return shlex.join([*words, *again, "--repair"])


def _sentence(found: VerifiedJob) -> str:
    figures = [each.figures for each in found.buckets if each.figures is not None]
    if not found.buckets:
        return f"{found.job.name}: no {_unit(found.job)} of that time is over: the schedule covers it"
    groups, differing = sum(each.groups for each in figures), sum(each.differing for each in figures)
    where = plural(len(found.buckets), _unit(found.job))
    if not differing:
        return f"{found.job.name}: {plural(groups, 'group')} of {where} agree with the raw events"
    reasons = {
        "only lack events that came late": sum(each.late for each in figures),
        "are withheld already": sum(each.known for each in figures),
    }
    more = "".join(f"; {count:,} of them {reason}" for reason, count in reasons.items() if count)
    return f"{found.job.name}: {differing:,} of {plural(groups, 'group')} of {where} differ{more}"


def _show_repair(found: VerifiedJob) -> None:
    repaired = [each for each in found.buckets if each.left is not None]
    before = sum(_differing(each.figures) for each in repaired)
    after = sum(_differing(each.left) for each in repaired)
    problems = list(dict.fromkeys(problem for each in repaired for problem in each.problems))
    for problem in problems[:_MAX_PROBLEMS]:
        log(f"{found.job.name}: {problem}", "warning")
    if len(problems) > _MAX_PROBLEMS:
        log(f"{found.job.name}: and {len(problems) - _MAX_PROBLEMS:,} more", "warning")
    if before:
        runs = sum(len(each.runs) for each in repaired)
        log(f"{found.job.name}: {before - after:,} of {plural(before, 'group')} repaired by {plural(runs, 'run')}")
    if any(row["withheld"] == SHRINKS for each in repaired for row in _standing(each)):
        log("If the lower values are right, run the same command with --allow-shrink.")


def _differing(figures: BucketFigures | None) -> int:
    return 0 if figures is None else figures.differing


def _standing(each: VerifiedBucket) -> Sequence[Row]:
    """Return the differences of a bucket as it stands: after a repair, those that are left."""
    figures = each.left or each.figures
    return () if figures is None else figures.differences


def _unit(job: AnyJob) -> str:
    return str(job.bucket) if job.bucket is not None else "window"


def _line(job: AnyJob, bucket: Window, row: Row) -> Row:
    day = "%Y-%m" if job.bucket is Unit.MONTH else "%Y-%m-%d"
    return {
        "organization": str(row["organization_id"]),
        "date": bucket.start.strftime(day),
        "type": row["kind"],
        "figure": row["figure"],
        "stands": row["stands"],
        "should_be": row["should_be"],
        "withheld": row["withheld"],
    }


def job_json(found: VerifiedJob) -> VerifiedJobJson:
    """Return the figures of one job for JSON."""
    return {
        "job": found.job.name,
        "buckets": [_bucket_json(each) for each in found.buckets],
        "differences": [_figure_json(each.bucket, row) for each in found.buckets for row in _standing(each)],
    }


def _bucket_json(each: VerifiedBucket) -> VerifiedBucketJson:
    figures = each.figures or BucketFigures(0, 0, 0, 0, (), ())
    return {
        "window": {"start": each.bucket.start, "end": each.bucket.end},
        "groups": figures.groups,
        "differing": figures.differing,
        "late": figures.late,
        "known": figures.known,
        "error": None if each.error is None else str(each.error),
        "runs": list(each.runs),
        "problems": list(each.problems),
        "left": None if each.left is None else each.left.differing,
    }


def _figure_json(bucket: Window, row: Row) -> FigureJson:
    return {
        "window": {"start": bucket.start, "end": bucket.end},
        "organization_id": row["organization_id"],
        "type": row["kind"],
        "figure": row["figure"],
        "stands": row["stands"],
        "should_be": row["should_be"],
        "withheld": row["withheld"],
    }
