"""Entries into journeys: executions that began, and how they stand."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from mauntic_jobs.job import AnyJob, Row
from mauntic_jobs.ops.figures.canvas import Canvas, left_out, table, written_by
from mauntic_jobs.ops.figures.lineage import Provenance, latest
from mauntic_jobs.ops.figures.table import Cell, id_text
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits, Session
from mauntic_jobs.timekeeping.window import Window, naive

if TYPE_CHECKING:
    from rich.text import Text

# Runs of the job that are looked through for one that evaluated a journey: two months of hours.
_MAX_RUNS = 1500

_sql = statements("figures")


class JourneyEntries(NamedTuple):
    """How many executions of a journey began, and how they stand; `entered_at` is when the last of them did.

    `written` has the run that evaluated the journey's segments last, and the last that let contacts enter any journey.
    """

    journey_id: UUID
    organization_id: UUID
    name: str
    entered: int
    active: int
    completed: int
    failed: int
    canceled: int
    entered_at: datetime
    written: Provenance


def read_journeys(
    session: Session,
    job: AnyJob,
    settings: Settings,
    window: Window,
    organization: UUID | None = None,
    journey: UUID | None = None,
) -> list[JourneyEntries]:
    """Read the entries of a window, the journey with most of them first, with the runs of `job`, which lets enter."""
    asked = {
        "start": naive(window.start),
        "end": naive(window.end),
        "organization": organization,
        "journey": journey,
    }
    with session.transaction(Limits("mauntic-jobs show", settings.statement_timeout)):
        found = session.rows(_sql["journeys"], asked)
        runs = session.rows(_sql["latest_runs"], {"job": job.name, "limit": _MAX_RUNS})
    return [JourneyEntries(**row, written=_provenance(runs, row)) for row in found]


def journeys_table(rows: Sequence[JourneyEntries], canvas: Canvas, limit: int) -> "list[Text]":
    """Return a line for each journey."""
    ends = ("completed", "failed", "canceled") if canvas.wide else ("ended",)
    headings = ["journey", "organization", "entered", "active", *ends]
    written = latest(row.written for row in rows)
    return [
        *table(headings, [_line(row, canvas) for row in rows[:limit]]),
        *left_out(len(rows), limit),
        *written_by(written, rebuilt="Segments evaluated", changed="let contacts enter"),
    ]


def _line(row: JourneyEntries, canvas: Canvas) -> list[Cell]:
    organization = id_text(row.organization_id, whole=canvas.ids_whole)
    ends = (row.completed, row.failed, row.canceled)
    return [row.name, organization, row.entered, row.active, *(ends if canvas.wide else (sum(ends),))]


def _provenance(runs: Sequence[Row], journey: Row) -> Provenance:
    mine = [run for run in runs if _reaches(run["options"], journey)]
    entering = next((run for run in mine if run["counters"].get("entered", 0)), None)
    return Provenance(
        *((mine[0]["id"], mine[0]["finished_at"]) if mine else (None, None)),
        *((entering["id"], entering["finished_at"]) if entering else (None, None)),
    )


def _reaches(options: Row, journey: Row) -> bool:
    """Return whether a run looked at all triggers of a journey."""
    wanted = {"org": journey["organization_id"], "journey": journey["journey_id"]}
    chosen = all(not options.get(name) or str(each) in options[name] for name, each in wanted.items())
    return chosen and not options.get("trigger")
