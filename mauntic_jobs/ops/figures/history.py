"""History of figures: what runs changed in them, and why, for as long as it is retained."""

from collections.abc import Sequence
from datetime import date, datetime
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from mauntic_jobs.job import AnyJob, Row
from mauntic_jobs.jobs.generate_daily_reports import FIGURES, GENERATE_DAILY_REPORTS
from mauntic_jobs.jobs.rollup import ChangeReason
from mauntic_jobs.ops.figures.canvas import left_out, table
from mauntic_jobs.ops.figures.table import Cell, time_text
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import Window

if TYPE_CHECKING:
    from rich.text import Text

_ROLLUP_FIGURES = ("events", "contacts")
# Of one organization a month of hours has about as many.
_MAX_CHANGES = 100_000

_sql = statements("figures")


class FigureChange(NamedTuple):
    """A figure that a run changed: `old` is None for a row that was new, `new` for one that was removed.

    `bucket` is the UTC day, or the first of the month; `kind` the event type as it is recorded, or the campaign's id.
    """

    changed_at: datetime
    run: int
    reason: ChangeReason
    organization_id: UUID
    bucket: date
    kind: str
    figure: str
    old: int | None
    new: int | None


def read_changes(
    session: Session, job: AnyJob, window: Window, organization: UUID | None, kind: str | None = None
) -> list[FigureChange]:
    """Return what runs changed in a job's figures of whole days or months, latest first.

    Figures that stayed as they were are left out. One of organization and kind may be None for all.
    """
    asked = {
        "job": job.name,
        "first": window.start.date(),
        "after": window.end.date(),
        "organization": organization,
        "kind": kind,
        "limit": _MAX_CHANGES,
    }
    names = FIGURES if job.name == GENERATE_DAILY_REPORTS.name else _ROLLUP_FIGURES
    return [change for row in session.rows(_sql["changes"], asked) for change in _changes(row, names)]


def changes_table(changes: Sequence[FigureChange], limit: int) -> "list[Text]":
    """Return the changes below the run that made them, the latest first."""
    from rich.text import Text

    if not changes:
        return [Text("No changes are retained.")]
    lines: list[Text] = []
    for (at, run, reason, bucket), group in groupby(changes[:limit], _writer):
        lines.append(Text(f"{time_text(at)} UTC, run {run}, {reason}, {bucket}", "bold"))
        rows: list[list[Cell]] = [[each.kind, each.figure, each.old, each.new] for each in group]
        lines += table(["kind", "figure", "old", "new"], rows)
    return [*lines, *left_out(len(changes), limit)]


def _writer(change: FigureChange) -> tuple[datetime, int, str, date]:
    return change.changed_at, change.run, change.reason.value, change.bucket


def _changes(row: Row, names: Sequence[str]) -> list[FigureChange]:
    return [
        FigureChange(
            changed_at=row["changed_at"],
            run=row["run"],
            reason=ChangeReason(row["reason"]),
            organization_id=row["organization_id"],
            bucket=row["bucket"],
            kind=row["kind"],
            figure=name,
            old=old,
            new=new,
        )
        for name, old, new in zip(names, row["old"], row["new"], strict=True)
        if old != new
    ]
