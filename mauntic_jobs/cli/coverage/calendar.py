"""Calendar of a job's buckets: a line for each month with a mark for each day, readable without colours, too."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from mauntic_jobs.backfill.coverage import BucketCoverage, BucketState
from mauntic_jobs.timekeeping.window import Unit

if TYPE_CHECKING:
    from rich.text import Text


class _Mark(NamedTuple):
    sign: str
    style: str


_MARKS = {
    BucketState.DONE: _Mark("#", "green"),
    BucketState.EMPTY: _Mark(".", "dim"),
    BucketState.MISSING: _Mark("M", "bold red"),
    BucketState.FAILED: _Mark("F", "bold red"),
    BucketState.STALE: _Mark("S", "bold magenta"),
    BucketState.SHRUNK: _Mark("v", "magenta"),
    BucketState.OPEN: _Mark("o", "cyan"),
}


class _Layout(NamedTuple):
    """How the buckets of a unit are laid out: formats of a line's label and of the column, and all columns."""

    label: str
    column: str
    columns: range


# A line is a month of days, a day of hours or a year of months.
_LAYOUTS = {
    Unit.HOUR: _Layout("%Y-%m-%d", "%H", range(24)),
    Unit.DAY: _Layout("%Y-%m", "%d", range(1, 32)),
    Unit.MONTH: _Layout("%Y", "%m", range(1, 13)),
}
_LABEL_WIDTH = 12
_HEADING_STEP = 5


def calendar_lines(unit: Unit, coverage: Sequence[BucketCoverage]) -> "list[Text]":
    """Return the lines of a calendar, its heading first and what its marks mean last; at most 76 columns wide."""
    from rich.text import Text

    layout = _LAYOUTS[unit]
    heading = Text(" " * _LABEL_WIDTH + _heading(layout.columns))
    lines = [heading]
    for label, group in groupby(coverage, lambda each: each.bucket.start.strftime(layout.label)):
        marks = {int(each.bucket.start.strftime(layout.column)): _MARKS[each.state] for each in group}
        line = Text(f"{label:<{_LABEL_WIDTH}}")
        for column in layout.columns:
            mark = marks.get(column)
            line.append(" " if mark is None else mark.sign, "" if mark is None else mark.style)
            line.append(" ")
        line.rstrip()
        lines.append(line)
    return [*lines, _legend(coverage)]


def _heading(columns: range) -> str:
    named = [column for column in columns if column == columns.start or column % _HEADING_STEP == 0]
    text = ""
    for column in named:
        text = text.ljust((column - columns.start) * 2) + str(column)
    return text


def _legend(coverage: Sequence[BucketCoverage]) -> "Text":
    from rich.text import Text

    return Text("  ").join(list(_counted(coverage)))


def _counted(coverage: Sequence[BucketCoverage]) -> "Iterator[Text]":
    from rich.text import Text

    for state, mark in _MARKS.items():
        number = sum(each.state is state for each in coverage)
        if number:
            yield Text.assemble((mark.sign, mark.style), f" {number:,} {state}")
