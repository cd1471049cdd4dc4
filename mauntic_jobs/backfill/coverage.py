"""Coverage of a job: how each of its buckets stands, by the raw events, the recorded rows and the ledger of runs.

This is the one judgement: `coverage` shows it, and a backfill chooses its windows by it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import ValidationError

from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import AnyJob, BucketCounts, JobOptions, Row
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits, Session
from mauntic_jobs.timekeeping.window import Unit, Window
from mauntic_jobs.wording import plural

# A run that covers a bucket may be for a window that begins so much later: more than any lateness grace.
_MAX_COVER_DELAY = timedelta(days=7)
# Options that change what a run shows or may lower, and not which groups it rebuilds.
_HARMLESS = {"compare", "allow_shrink", "grace"}

_sql = statements("coverage")


class BucketState(StrEnum):
    """State of a bucket."""

    DONE = "done"
    EMPTY = "empty"
    MISSING = "missing"
    FAILED = "failed"
    STALE = "stale"
    SHRUNK = "shrunk"
    OPEN = "open"


@dataclass(frozen=True)
class BucketCoverage:
    """State of one bucket, and the reason. `run` is the latest run that decides about it, if the ledger has one.

    `events` is how many raw events it has, None where the job counts none.
    """

    bucket: Window
    state: BucketState
    reason: str
    run: int | None = None
    events: int | None = None


@dataclass
class _Ledger:
    """What the ledger says of a bucket: its latest success since it ended, and the latest failure after that."""

    success: Row | None = None
    failure: Row | None = None


def bucket_of(job: AnyJob) -> Unit:
    """Return what the job rebuilds as a whole. Raises UsageError for a job that looks at the present."""
    if job.bucket is None:
        raise UsageError(
            f"{job.name} has no windows to backfill: it looks at the present. "
            f"Run it once more with `mauntic-jobs {job.name}`."
        )
    return job.bucket


def buckets(job: AnyJob, window: Window) -> list[Window]:
    """Return the whole buckets that a window touches, oldest first. Raises UsageError as `bucket_of` does."""
    bucket = bucket_of(job)
    return list(window.aligned(bucket).split(bucket))


def judge(
    session: Session,
    job: AnyJob,
    options: JobOptions,
    settings: Settings,
    now: datetime,
    wanted: Sequence[Window],
    *,
    by_ledger: bool = False,
) -> Iterator[BucketCoverage]:
    """Yield how each of the `wanted` buckets of a job stands at `now`, in their order; nothing is written.

    `options` may limit the look to organizations. Each bucket is a query of its own over its events, but with
    `by_ledger` only the first one is, and all are judged by their runs. Raises UsageError for organizations that are
    unknown.
    """
    ledger = _read_ledger(session, job, options, settings, wanted)
    limits = Limits("mauntic-jobs coverage", settings.statement_timeout, work_mem=settings.work_mem)
    is_checked = False
    for bucket in wanted:
        if bucket.end > now:
            yield BucketCoverage(bucket, BucketState.OPEN, "it is not over yet: the schedule covers it")
            continue
        counts = None
        if job.audit is not None and not (by_ledger and is_checked):
            with session.transaction(limits):
                counts = job.audit(session, options, settings, bucket)
            is_checked = True
        yield _judged(bucket, None if by_ledger else counts, ledger[bucket])


def _judged(bucket: Window, counts: BucketCounts | None, ledger: _Ledger) -> BucketCoverage:
    decisive = ledger.failure or ledger.success
    run = None if decisive is None else int(decisive["id"])
    state, reason = _by_ledger(ledger) if counts is None else _by_counts(counts, ledger)
    return BucketCoverage(bucket, state, reason, run, None if counts is None else counts.events)


def _by_ledger(ledger: _Ledger) -> tuple[BucketState, str]:
    if ledger.failure is not None:
        return BucketState.FAILED, _failure(ledger.failure)
    if ledger.success is not None:
        return BucketState.DONE, f"run {ledger.success['id']}"
    return BucketState.MISSING, "no run has covered it since it ended"


def _by_counts(counts: BucketCounts, ledger: _Ledger) -> tuple[BucketState, str]:
    if counts.lacking:
        return _behind(counts, ledger)
    if counts.withheld:
        return BucketState.SHRUNK, f"{plural(counts.withheld, 'group')} recorded with more than the events say"
    if not counts.events and not counts.groups:
        return BucketState.EMPTY, "no events"
    return BucketState.DONE, "the rows agree with the events"


def _behind(counts: BucketCounts, ledger: _Ledger) -> tuple[BucketState, str]:
    lacks = f"{plural(counts.lacking, 'event')} not recorded"
    if ledger.failure is not None:
        return BucketState.FAILED, f"{lacks}; {_failure(ledger.failure)}"
    if ledger.success is None:
        return BucketState.MISSING, f"{lacks}; no run has covered it since it ended"
    run = f"run {ledger.success['id']}"
    if not counts.groups:
        return BucketState.MISSING, f"{lacks}; {run} covered it, and its rows are gone"
    return BucketState.STALE, f"{lacks}; they came after {run}"


def _failure(run: Row) -> str:
    return f"run {run['id']} {run['status']}: {run['error']}"


def _read_ledger(
    session: Session, job: AnyJob, options: JobOptions, settings: Settings, wanted: Sequence[Window]
) -> dict[Window, _Ledger]:
    found = {bucket: _Ledger() for bucket in wanted}
    if not wanted:
        return found
    start, end = min(each.start for each in wanted), max(each.end for each in wanted)
    asked = {"job": job.name, "start": start, "until": end + _MAX_COVER_DELAY}
    limited = set(_organizations(options.model_dump(mode="json")))
    for row in session.rows(_sql["runs"], asked):
        covered = _covered(job, row, settings, limited)
        for bucket in [] if covered is None else buckets(job, covered):
            if bucket in found:
                _note(found[bucket], row, bucket)
    return found


def _note(ledger: _Ledger, row: Row, bucket: Window) -> None:
    if row["status"] != "succeeded":
        ledger.failure = row
        return
    ledger.failure = None
    if row["began"] >= bucket.end:
        ledger.success = row


def _covered(job: AnyJob, row: Row, settings: Settings, limited: set[str]) -> Window | None:
    """Return the whole buckets that a run rebuilt for all that was asked about, None if it rebuilt less."""
    given = row["options"]
    own = _organizations(given)
    if set(given) - _HARMLESS - {"org"} or (own and not (limited and limited <= set(own))):
        return None
    window = Window(row["window_start"], row["window_end"])
    if row["exact"]:
        return window
    try:
        return job.coverage(window, job.options.from_ledger(given), settings)
    except ValidationError:  # a version of the job with other options wrote it
        return None


def _organizations(options: Row) -> Sequence[str]:
    return [str(each) for each in options.get("org") or ()]
