"""Daily figures of campaigns."""

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from mauntic_jobs.job import AnyJob, Row
from mauntic_jobs.ops.figures.canvas import Canvas, left_out, table, written_by
from mauntic_jobs.ops.figures.lineage import Lineage, Provenance, latest
from mauntic_jobs.ops.figures.table import Cell, date_text, id_text, time_text
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits, Session
from mauntic_jobs.timekeeping.window import Window

if TYPE_CHECKING:
    from rich.text import Text

_sql = statements("figures")


class CampaignDay(NamedTuple):
    """A row of analytics.campaign_daily_stats. Distinct contacts stand in `unique_opened` and `unique_clicked`."""

    campaign_id: UUID
    organization_id: UUID
    date: date
    sent: int
    delivered: int
    opened: int
    unique_opened: int
    clicked: int
    unique_clicked: int
    bounced: int
    complained: int
    unsubscribed: int
    written: Provenance


def read_campaigns(
    session: Session,
    job: AnyJob,
    settings: Settings,
    days: Window,
    organization: UUID | None = None,
    campaign: UUID | None = None,
) -> list[CampaignDay]:
    """Read the figures of whole days, the busiest campaign of each first, with the runs of `job`, which writes them."""
    asked = {
        "first": days.start.date(),
        "after": days.end.date(),
        "organization": organization,
        "campaign": campaign,
    }
    with session.transaction(Limits("mauntic-jobs show", settings.statement_timeout)):
        found = session.rows(_sql["campaigns"], asked)
        lineage = Lineage(session, job, settings, days, organization, campaign)
    return [CampaignDay(**row, written=_written(lineage, row)) for row in found]


def campaigns_table(rows: Sequence[CampaignDay], canvas: Canvas, limit: int) -> "list[Text]":
    """Return a table of figures, with the run that changed each last; rows of several days begin with their date."""
    several = len({row.date for row in rows}) > 1
    headings = [
        *(["date"] if several else []),
        *("campaign", "organization", "sent", "delivered", "readers", "clickers"),
        *(("bounced", "complained", "unsubscribed") if canvas.wide else ()),
        *("run", *(["changed at"] if canvas.wide else [])),
    ]
    lines = [_line(row, canvas, several=several) for row in rows[:limit]]
    return [*table(headings, lines), *left_out(len(rows), limit), *written_by(latest(row.written for row in rows))]


def _written(lineage: Lineage, row: Row) -> Provenance:
    campaign = row["campaign_id"]
    return lineage.of(row["date"], row["organization_id"], str(campaign), campaign)


def _line(row: CampaignDay, canvas: Canvas, *, several: bool) -> list[Cell]:
    ids = (id_text(each, whole=canvas.ids_whole) for each in (row.campaign_id, row.organization_id))
    more = (row.bounced, row.complained, row.unsubscribed) if canvas.wide else ()
    return [
        *([date_text(row.date)] if several else []),
        *(*ids, row.sent, row.delivered, row.unique_opened, row.unique_clicked, *more),
        *(row.written.changed_run, *([time_text(row.written.changed_at)] if canvas.wide else [])),
    ]
