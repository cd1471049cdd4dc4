"""Tables of figures as lines of text. Nothing is cut to fit, since half a number lies."""

from collections.abc import Sequence
from datetime import date, datetime
from uuid import UUID

from mauntic_jobs.redaction.printable import on_one_line

GAP = 2
# From this width on tables have more columns, and from the other on their ids are whole.
WIDE = 112
WIDE_IDS = 180
_ID_LENGTH = 8

Cell = str | int | None


def table_text(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[str]:
    """Return the lines of a table, its headings first; a column of numbers is aligned to the right."""
    lines = [list(headings), *([cell_text(value) for value in row] for row in rows)]
    for column in range(len(headings)):
        width = max(len(line[column]) for line in lines)
        right = bool(rows) and all(isinstance(row[column], int | None) for row in rows)
        for line in lines:
            line[column] = f"{line[column]:{'>' if right else '<'}{width}}"
    return [(" " * GAP).join(line).rstrip() for line in lines]


def cell_text(value: Cell) -> str:
    """Return one value as a table shows it: numbers with their thousands set apart, a dash for none."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else on_one_line(value)


def id_text(value: UUID, *, whole: bool) -> str:
    """Return an id, or the beginning of it by which it is told from others."""
    return str(value) if whole else str(value)[:_ID_LENGTH]


def time_text(instant: datetime | None) -> str | None:
    """Return an instant to the minute."""
    return None if instant is None else f"{instant:%Y-%m-%d %H:%M}"


def date_text(day: date | None) -> str | None:
    """Return a UTC day."""
    return None if day is None else str(day)
