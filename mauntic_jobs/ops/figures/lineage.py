"""Lineage of figures: the runs that rebuilt and changed them last, by the ledger of runs and the history of changes."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from pydantic import ValidationError

from mauntic_jobs.job import AnyJob, Row
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import Window

# A run that rebuilds a day may be for a window that begins so much later: more than any lateness grace.
_MAX_COVER_DELAY = timedelta(days=7)
_CHANGES = ("inserted", "updated", "removed")
# Options that limit a run, and what a figure must be of to be rebuilt by it.
_LIMITS = ("org", "campaign")

_sql = statements("figures")


class Provenance(NamedTuple):
    """Who wrote a figure: the run that rebuilt it last, and the run that changed it last; None where none is known."""

    run: int | None = None
    run_at: datetime | None = None
    changed_run: int | None = None
    changed_at: datetime | None = None


@dataclass(frozen=True)
class RebuildingRun:
    """A successful run, with the ids that it was limited to: None for all."""

    id: int
    at: datetime
    changed: bool
    limits: tuple[frozenset[str] | None, ...]

    def reaches(self, ids: Iterable[UUID | None]) -> bool:
        """Return whether the run rebuilt a figure of these ids, in the order of the options that limit it."""
        pairs = zip(self.limits, ids, strict=True)
        return all(limit is None or str(each) in limit for limit, each in pairs)


class Lineage:
    """The runs that rebuilt the days or months of a job in a range, latest first.

    Limited to an organization or a campaign, it also knows the run that changed each figure last, from the history of
    changes; for all of them that would be millions of rows, and the ledger tells what a run changed in all.
    """

    def __init__(
        self,
        session: Session,
        job: AnyJob,
        settings: Settings,
        window: Window,
        organization: UUID | None = None,
        campaign: UUID | None = None,
    ) -> None:
        self._runs: dict[date, list[RebuildingRun]] = {}
        asked = {"job": job.name, "start": window.start, "until": window.end + _MAX_COVER_DELAY}
        for row in session.rows(_sql["runs"], asked):
            covered = _covered(job, row, settings)
            for bucket in [] if covered is None else covered.aligned(job.bucket or job.unit).split(job.bucket):
                self._runs.setdefault(bucket.start.date(), []).append(_run(row))
        changes = {
            "job": job.name,
            "first": window.start.date(),
            "after": window.end.date(),
            "organization": organization,
            "kind": None if campaign is None else str(campaign),
        }
        limited = organization is not None or campaign is not None
        self._changes = {
            (row["bucket"], row["organization_id"], row["kind"]): row
            for row in (session.rows(_sql["last_changes"], changes) if limited else ())
        }

    def runs(self, bucket: date, organization: UUID | None, campaign: UUID | None = None) -> list[RebuildingRun]:
        """Return the runs that rebuilt a figure of the day or month that begins on `bucket`, latest first."""
        return [run for run in self._runs.get(bucket, []) if run.reaches((organization, campaign))]

    def of(self, bucket: date, organization: UUID, kind: str, campaign: UUID | None = None) -> Provenance:
        """Return who wrote a figure of the day or month that begins on `bucket`; `kind` is as it is recorded."""
        runs = self.runs(bucket, organization, campaign)
        run, run_at = (runs[0].id, runs[0].at) if runs else (None, None)
        change = self._changes.get((bucket, organization, kind))
        if change is None:
            changed = next((run for run in runs if run.changed), None)
            return Provenance(run, run_at, *((changed.id, changed.at) if changed else ()))
        # A run that found late events rebuilt other days than those of its window.
        if run_at is None or run_at < change["changed_at"]:
            run, run_at = change["run"], change["changed_at"]
        return Provenance(run, run_at, change["run"], change["changed_at"])


def latest(found: Iterable[Provenance]) -> Provenance:
    """Return who wrote a sum of figures: the latest run that rebuilt one of them, and the latest that changed one."""
    rows = list(found)
    rebuilt = max((row for row in rows if row.run is not None), key=lambda row: row.run or 0, default=Provenance())
    changed = max((row for row in rows if row.changed_at), key=lambda row: row.changed_run or 0, default=Provenance())
    return Provenance(rebuilt.run, rebuilt.run_at, changed.changed_run, changed.changed_at)


def _covered(job: AnyJob, row: Row, settings: Settings) -> Window | None:
    """Return what a run rebuilt; None if a version of the job with other options wrote it."""
    window = Window(row["window_start"], row["window_end"])
    if row["exact"]:
        return window
    try:
        return job.coverage(window, job.options.from_ledger(row["options"]), settings)
    except ValidationError:
        return None


def _run(row: Row) -> RebuildingRun:
    options = row["options"]
    limits = (frozenset(str(each) for each in options.get(name) or ()) or None for name in _LIMITS)
    changed = any(row["counters"].get(name, 0) for name in _CHANGES)
    return RebuildingRun(row["id"], row["finished_at"], changed, tuple(limits))
