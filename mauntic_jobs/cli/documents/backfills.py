"""JSON of backfills and of coverage."""

from pydantic import AwareDatetime
from typing_extensions import TypedDict

from mauntic_jobs.backfill.coverage import BucketState
from mauntic_jobs.backfill.plan import Reprocess
from mauntic_jobs.backfill.store import BackfillState, WindowState
from mauntic_jobs.cli.documents.runs import WindowJson


class WindowCountsJson(TypedDict):
    """How many windows stand how; `partial` of the `done` ones are done in part."""

    done: int
    partial: int
    failed: int
    skipped: int
    running: int
    waiting: int
    canceled: int


class BackfillJson(TypedDict):
    """A backfill.

    `reason` is why it is paused or was canceled. `worked_at` is the latest sign of life of a process that works on it,
    `abandoned`: it is active, and none does. `options` are the job's.
    """

    id: int
    job: str
    window: WindowJson
    options: dict[str, object]
    reprocess: list[Reprocess]
    newest_first: bool
    parallel: int
    stop_after_failures: int
    state: BackfillState
    reason: str | None
    created_at: AwareDatetime
    worked_at: AwareDatetime
    ended_at: AwareDatetime | None
    abandoned: bool
    windows: WindowCountsJson


class BackfillWindowJson(TypedDict):
    """A window of a backfill: how it was `found` to stand when it was planned, and how it stands.

    `reason` is why it is left out, has failed or is done in part; `run` the run of the ledger that decides about it.
    """

    window: WindowJson
    found: BucketState
    state: WindowState
    reason: str | None
    run: int | None
    counters: dict[str, int]


class BackfillDetailsJson(BackfillJson):
    """A backfill with its windows, oldest first."""

    each: list[BackfillWindowJson]


class BackfillRunJson(TypedDict):
    """What `backfill run` and `backfill resume` did: `backfill` is null where nothing was to be run or to be written.

    `each` has the windows, oldest first; of a dry run those that wait would be run.
    """

    job: str
    window: WindowJson
    dry_run: bool
    exit_code: int
    backfill: BackfillJson | None
    each: list[BackfillWindowJson]


class BucketJson(TypedDict):
    """How a bucket stands, and why: `run` is the run that decides about it, `events` how many raw events it has."""

    window: WindowJson
    state: BucketState
    reason: str
    run: int | None
    events: int | None


class CoverageJson(TypedDict):
    """How the buckets of a job stand, oldest first."""

    job: str
    window: WindowJson
    buckets: list[BucketJson]
