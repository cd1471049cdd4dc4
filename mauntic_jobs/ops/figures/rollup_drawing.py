"""Drawings of rollups: an overview of organizations, tables of sums, and bars by day."""

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING
from uuid import UUID

from mauntic_jobs.ops.figures.canvas import Canvas, left_out, table, written_by
from mauntic_jobs.ops.figures.chart import bars, sparkline
from mauntic_jobs.ops.figures.rollups import By, RollupRow, Rollups, last_full_day
from mauntic_jobs.ops.figures.table import GAP, Cell, cell_text, date_text, id_text, time_text

if TYPE_CHECKING:
    from rich.text import Text

_LABEL = 14
_BAR_HEIGHT = 4
_WIDEST_BAR = 4
_NARROWEST_CHART = 7

# Heading by event type; the second set where there is room for it.
_SUMS = {"email_sent": "sent", "email_opened": "opened", "email_clicked": "clicked"}
_MORE_SUMS = (
    {"email_sent": "sent", "email_delivered": "delivered", "email_bounced": "bounced"}
    | _SUMS
    | {"page_viewed": "pages"}
)
_SERIES = {"email_sent": "cyan", "email_opened": "green", "email_clicked": "magenta"}


def overview(rollups: Rollups, canvas: Canvas, today: date, limit: int) -> "list[Text]":
    """Return for each organization its sums, the distinct readers of the last full day, and all its events by day.

    At most `limit` organizations are shown, those with most events.
    """
    sums = _MORE_SUMS if canvas.wide else _SUMS
    organizations = rollups.organizations[:limit]
    read_on = last_full_day(rollups.days, today)
    rows: list[list[Cell]] = [
        [
            id_text(organization, whole=canvas.ids_whole),
            *(sum(rollups.by_day(event_type, organization)) for event_type in sums),
            rollups.contacts("email_opened", read_on, organization),
        ]
        for organization in organizations
    ]
    headings = ["organization", *sums.values(), "readers"]
    taken = sum(
        max(len(heading), *(len(cell_text(row[number])) for row in rows)) + GAP
        for number, heading in enumerate(headings)
    )
    shown = min(len(rollups.days), canvas.width - taken)
    heading = f"events, last {shown} days" if shown > 1 else "events"
    if canvas.width - taken >= len(heading):
        headings.append(heading)
        for row, organization in zip(rows, organizations, strict=True):
            row.append(sparkline(rollups.by_day(organization=organization)[-shown:], canvas.characters))
    more = left_out(len(rollups.organizations), limit)
    return [*table(headings, rows), *more, *_legend(read_on), *written_by(rollups.written)]


def sums_table(rollups: Rollups, by: By, organization: UUID | None, limit: int) -> "list[Text]":
    """Return a table of sums by day, type or channel, with the run that changed each last; of days the latest."""
    rows = rollups.summed(by, organization)
    more = left_out(len(rows), limit)
    if by is By.DAY:
        headings = ["date", *_SUMS.values(), "events", "run", "changed at"]
        lines = [_day(rollups, row) for row in rows[-limit:]]
    else:
        headings = ["event type" if by is By.TYPE else "channel", "events", "run", "changed at"]
        lines = [[row.event_type if by is By.TYPE else row.channel, row.events, *_changed(row)] for row in rows[:limit]]
    return [*table(headings, lines), *more, *written_by(rollups.written)]


def plot(rollups: Rollups, canvas: Canvas) -> "list[Text]":
    """Return the main event types as bars by day, and the Mondays below."""
    from rich.text import Text

    room = max(_NARROWEST_CHART, canvas.width - _LABEL)
    width = max(1, min(_WIDEST_BAR, room // len(rollups.days)))
    shown = rollups.days[-(room // width) :]
    drawn: list[Text] = []
    for event_type, style in _SERIES.items():
        values = rollups.by_day(event_type)[-len(shown) :]
        labels = [event_type, f"up to {max(values):,}", *[""] * _BAR_HEIGHT]
        lines = bars(values, canvas.characters, height=_BAR_HEIGHT, width=width)
        drawn += [Text(f"{label:{_LABEL}}") + Text(line, style) for label, line in zip(labels, lines, strict=False)]
    return [*drawn, Text(f"{'':{_LABEL}}{_mondays(shown, width)}".rstrip(), "dim")]


def _day(rollups: Rollups, row: RollupRow) -> list[Cell]:
    day = rollups.days.index(row.date) if row.date else 0
    sums = (rollups.by_day(event_type)[day] for event_type in _SUMS)
    return [date_text(row.date), *sums, row.events, *_changed(row)]


def _changed(row: RollupRow) -> list[Cell]:
    return [row.written.changed_run, time_text(row.written.changed_at)]


def _legend(read_on: date) -> "list[Text]":
    from rich.text import Text

    return [Text(f"Emails; readers are the contacts that opened one on {read_on}.", "dim")]


def _mondays(days: Sequence[date], width: int) -> str:
    """Return an axis that names each Monday under its bar, where it fits."""
    axis = ""
    for number, day in enumerate(days):
        name, position = f"Mo {day:%m-%d}", number * width
        if day.weekday() == 0 and len(axis) <= position and position + len(name) <= len(days) * width:
            axis = f"{axis:{position}}{name} "
    return axis.rstrip()
