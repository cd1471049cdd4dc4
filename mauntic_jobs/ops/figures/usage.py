"""Monthly usage of organizations."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from mauntic_jobs.job import AnyJob
from mauntic_jobs.ops.figures.canvas import Canvas, left_out, table, written_by
from mauntic_jobs.ops.figures.lineage import Lineage, Provenance, latest
from mauntic_jobs.ops.figures.rollups import channel_of
from mauntic_jobs.ops.figures.table import Cell, id_text, time_text
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits, Session
from mauntic_jobs.timekeeping.window import Window

if TYPE_CHECKING:
    from rich.text import Text

# What types of events are recorded with.
MONTHLY = "monthly:"

_sql = statements("figures")


class UsageRow(NamedTuple):
    """A month's events and distinct contacts of one type; `month` is its first day."""

    organization_id: UUID
    month: date
    channel: str
    event_type: str
    events: int
    contacts: int
    written: Provenance


@dataclass(frozen=True)
class _OrganizationUsage:
    organization_id: UUID
    rows: Sequence[UsageRow]

    @property
    def events(self) -> int:
        return sum(row.events for row in self.rows)


def read_usage(
    session: Session, job: AnyJob, settings: Settings, month: Window, organization: UUID | None = None
) -> list[UsageRow]:
    """Read the usage of one month, with the runs of `job`, which writes it."""
    asked = {"first": month.start.date(), "organization": organization}
    with session.transaction(Limits("mauntic-jobs show", settings.statement_timeout)):
        found = session.rows(_sql["usage"], asked)
        lineage = Lineage(session, job, settings, month, organization)
    return [
        UsageRow(
            organization_id=row["organization_id"],
            month=row["date"],
            channel=channel_of(row["event_type"]),
            event_type=row["event_type"],
            events=row["events"],
            contacts=row["contacts"],
            written=lineage.of(row["date"], row["organization_id"], f"{MONTHLY}{row['event_type']}"),
        )
        for row in found
    ]


def organizations_table(rows: Sequence[UsageRow], canvas: Canvas, limit: int) -> "list[Text]":
    """Return a line for each organization, the one with most events first."""
    groups: dict[UUID, list[UsageRow]] = {}
    for row in rows:
        groups.setdefault(row.organization_id, []).append(row)
    usage = sorted(
        (_OrganizationUsage(key, group) for key, group in groups.items()),
        key=lambda each: (-each.events, str(each.organization_id)),
    )
    headings = ["organization", "events", "event types", "contacts mailed", "run", "changed at"]
    lines = [_organization(each, canvas) for each in usage[:limit]]
    return [*table(headings, lines), *left_out(len(usage), limit), *written_by(latest(row.written for row in rows))]


def types_table(rows: Sequence[UsageRow], limit: int) -> "list[Text]":
    """Return a line for each event type of one organization, the one with most events first."""
    ranked = sorted(rows, key=lambda row: (-row.events, row.event_type))
    headings = ["event type", "events", "contacts", "run", "changed at"]
    lines: list[list[Cell]] = [[row.event_type, row.events, row.contacts, *_changed(row.written)] for row in ranked]
    return [*table(headings, lines[:limit]), *left_out(len(lines), limit), *written_by(latest(r.written for r in rows))]


def _organization(usage: _OrganizationUsage, canvas: Canvas) -> list[Cell]:
    mailed = next((row.contacts for row in usage.rows if row.event_type == "email_sent"), 0)
    organization = id_text(usage.organization_id, whole=canvas.ids_whole)
    written = latest(row.written for row in usage.rows)
    return [organization, usage.events, len(usage.rows), mailed, *_changed(written)]


def _changed(written: Provenance) -> list[Cell]:
    return [written.changed_run, time_text(written.changed_at)]
