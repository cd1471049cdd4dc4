"""Plan of a backfill: which windows of a range are run, which are left out, and why."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from mauntic_jobs.backfill.coverage import BucketCoverage, BucketState, buckets, judge
from mauntic_jobs.job import AnyJob, Fingerprint, JobOptions
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import Window


class Reprocess(StrEnum):
    """Which windows a backfill runs, by how they stand."""

    MISSING = "missing"
    FAILED = "failed"
    STALE = "stale"
    ALL = "all"


_CHOSEN: dict[Reprocess, set[BucketState]] = {
    Reprocess.MISSING: {BucketState.MISSING, BucketState.FAILED},
    Reprocess.FAILED: {BucketState.FAILED},
    Reprocess.STALE: {BucketState.STALE},
    Reprocess.ALL: set(BucketState) - {BucketState.OPEN},
}


@dataclass(frozen=True)
class PlannedWindow:
    """A window of a backfill: how it was found to stand, and why it is left out, if it is.

    With `expects` it is rebuilt only as long as it looks like that.
    """

    window: Window
    found: BucketState
    reason: str
    skipped: str | None
    expects: Fingerprint | None = None


@dataclass(frozen=True)
class BackfillRequest:
    """A backfill that is asked for: which windows of a job, and how they are to be run.

    `stop_after_failures` is how many runs may fail before it is paused.
    """

    job: AnyJob
    window: Window
    options: JobOptions
    reprocess: Sequence[Reprocess]
    newest_first: bool
    parallel: int
    stop_after_failures: int


def make_plan(
    session: Session,
    request: BackfillRequest,
    settings: Settings,
    now: datetime,
    advance: Callable[[], None] = lambda: None,
) -> list[PlannedWindow]:
    """Judge each window of a request, and return them in the order in which they are run; `advance` follows each.

    With `Reprocess.ALL` no events are counted, because every window that is over is run, and counting takes long.
    Raises UsageError for a job without windows, and for organizations that are unknown.
    """
    wanted = buckets(request.job, request.window)
    chosen = set[BucketState]().union(*(_CHOSEN[each] for each in request.reprocess))
    planned = []
    by_ledger = Reprocess.ALL in request.reprocess
    for coverage in judge(session, request.job, request.options, settings, now, wanted, by_ledger=by_ledger):
        planned.append(_planned(coverage, chosen))
        advance()
    return planned[::-1] if request.newest_first else planned


def _planned(coverage: BucketCoverage, chosen: set[BucketState]) -> PlannedWindow:
    skipped = None if coverage.state in chosen else f"{coverage.state}: {coverage.reason}"
    return PlannedWindow(coverage.bucket, coverage.state, coverage.reason, skipped)
