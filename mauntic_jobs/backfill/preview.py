"""Previews of a backfill: what each of its windows would change, what would be withheld, and how long it would take."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mauntic_jobs.backfill.plan import BackfillRequest, PlannedWindow
from mauntic_jobs.backfill.verify import comparison_of
from mauntic_jobs.errors import PlanOutdatedError, UsageError
from mauntic_jobs.job import AnyJob, BucketPreview, FigureLook, Fingerprint, JobOptions
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits, Session
from mauntic_jobs.timekeeping.window import Window

# Runs of the ledger by which the time is estimated.
_HISTORY = 50

_sql = statements("backfills")


class DatabaseId(NamedTuple):
    """What tells one database from others: the identifier that its server was given when it was made, and its name."""

    system: str
    name: str


@dataclass(frozen=True)
class PreviewedWindow:
    """A window of a plan, and what its rebuild would do in about how many seconds; None if it is left out.

    `seconds` are None where the ledger has no run of the job to judge by.
    """

    planned: PlannedWindow
    preview: BucketPreview | None = None
    seconds: float | None = None


def database_of(session: Session) -> DatabaseId:
    """Return what tells this database from others."""
    return DatabaseId(**session.row(_sql["database"]))


def preview(
    session: Session,
    request: BackfillRequest,
    settings: Settings,
    plan: Sequence[PlannedWindow],
    advance: Callable[[], None] = lambda: None,
) -> Iterator[PreviewedWindow]:
    """Yield each window of a plan with what its rebuild would do; nothing is written, and `advance` follows each.

    Raises UsageError for a job whose figures cannot be compared before they are written.
    """
    comparison_of(request.job)
    seconds = _seconds(session, request.job)
    for planned in plan:
        if planned.skipped is None:
            found = _look(session, request.job, request.options, settings, planned.window, ids_known=True)
            yield PreviewedWindow(planned, found, seconds(found.events))
        else:
            yield PreviewedWindow(planned)
        advance()


def check_first(
    session: Session, job: AnyJob, options: JobOptions, settings: Settings, window: Window, expected: Fingerprint
) -> None:
    """Look at the first window that a plan would run, before anything of it is recorded.

    Raises PlanOutdatedError if it has changed, and UsageError for organizations that are unknown.
    """
    what = expected.difference(_look(session, job, options, settings, window, ids_known=False).fingerprint)
    if what:
        raise PlanOutdatedError(f"{what} in {window} since the plan was made: nothing was written. Make another plan.")


def _look(
    session: Session, job: AnyJob, options: JobOptions, settings: Settings, window: Window, *, ids_known: bool
) -> BucketPreview:
    limits = Limits("mauntic-jobs backfill plan", settings.statement_timeout, work_mem=settings.work_mem)
    with session.look(limits):
        wanted = FigureLook(limit=0, ids_known=ids_known, preview=True)
        found = comparison_of(job)(session, options, settings, window, wanted).preview
    if found is None:
        raise UsageError(f"{job.name} does not tell what it would write: run it with --dry-run.")
    return found


def _seconds(session: Session, job: AnyJob) -> Callable[[int], float | None]:
    """Return what estimates the seconds of a run by its events, from the latest runs of the ledger."""
    row = session.row(_sql["speed"], {"job": job.name, "measure": job.measure or "", "history": _HISTORY})
    average, each, fixed = row["average"], row["for_each"], row["for_all"]

    def estimate(events: int) -> float | None:
        if average is None:
            return None
        # A line that falls says that the events do not matter.
        line = None if each is None or each < 0 else fixed + each * events
        return round(float(average if line is None else max(line, 0)), 3)

    return estimate
