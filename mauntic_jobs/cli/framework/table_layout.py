"""Layout of tables: columns that fit the terminal, and below each row what does not."""

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

_GAP = 2
_INDENT = "    "
_UUID = re.compile(r"\b([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{8}([0-9a-f]{4})\b", re.IGNORECASE)
# Names of columns whose values are ids of any form; longer ones lose their middle.
_IDS = ("delivery_id", "message_id", "id")
_MAX_ID, _ID_HEAD, _ID_TAIL = 20, 10, 6
# Longer values with spaces are sentences, which read better below the row than in a narrow column.
_MAX_WORDS = 32
_COMMAND = "mauntic-jobs "


@dataclass
class _Column:
    """A column; what is read off all of its cells is read once for the whole table."""

    name: str
    cells: "list[Text]"
    is_numeric: bool

    @property
    def title(self) -> str:
        return self.name.replace("_", " ")

    @cached_property
    def width(self) -> int:
        return max([len(self.title), *(cell.cell_len for cell in self.cells)])

    @cached_property
    def is_command(self) -> bool:
        return any(cell.plain.startswith(_COMMAND) for cell in self.cells)

    @cached_property
    def is_prose(self) -> bool:
        return any(cell.cell_len > _MAX_WORDS and " " in cell.plain.strip() for cell in self.cells)


def table_lines(
    cells: "Sequence[Mapping[str, Text]]", names: Sequence[str], numeric: Iterable[str], width: int, *, wide: bool
) -> "list[Text]":
    """Return the lines of a table: one for each row, and below it, indented, the columns for which there is no place.

    No word and no command is ever broken by a line's end; a line with a longer one is longer than `width`. Without
    `wide`, ids lose their middle where the table does not fit.
    """
    columns = [_Column(name, [row[name] for row in cells], name in set(numeric)) for name in names]
    if wide:
        return _lines(columns, [], width)
    if _width(columns) > width:
        columns = [_shortened(column) for column in columns]
    beside, below = _divided(columns, width)
    return _lines(beside, below, width)


def _width(columns: Sequence[_Column]) -> int:
    return sum(column.width for column in columns) + _GAP * (len(columns) - 1)


def _shortened(column: _Column) -> _Column:
    if column.is_command or column.is_prose:
        return column
    cells = []
    for cell in column.cells:
        shorter = _UUID.sub(r"\1…\2", cell.plain)
        if column.name in _IDS and len(shorter) > _MAX_ID:
            shorter = f"{shorter[:_ID_HEAD]}…{shorter[-_ID_TAIL:]}"
        cells.append(cell if shorter == cell.plain else type(cell)(shorter, cell.style))
    return replace(column, cells=cells)


def _divided(columns: Sequence[_Column], width: int) -> tuple[list[_Column], list[_Column]]:
    """Return the columns beside each other, and those that go below: sentences first, then from the right."""
    beside, below = list(columns), []
    while _width(beside) > width and len(beside) > 1:
        prose = [column for column in beside[1:] if column.is_prose or column.is_command]
        moved = max(prose, key=lambda column: column.width) if prose else beside[-1]
        beside.remove(moved)
        below.append(moved)
    return beside, sorted(below, key=columns.index)


def _lines(beside: Sequence[_Column], below: Sequence[_Column], width: int) -> "list[Text]":
    from rich.text import Text

    header = _row([Text(column.title, "bold") for column in beside], beside)
    if not below:
        return [header, *(_row(list(row), beside) for row in zip(*(column.cells for column in beside), strict=True))]
    lines = [header]
    for number in range(len(beside[0].cells)):
        lines.append(_row([column.cells[number] for column in beside], beside))
        lines += _below([(column, column.cells[number]) for column in below], width)
    return lines


def _row(cells: "Sequence[Text]", columns: Sequence[_Column]) -> "Text":
    from rich.text import Text

    line = Text(no_wrap=True, overflow="ignore")
    for number, (cell, column) in enumerate(zip(cells, columns, strict=True)):
        space = " " * (column.width - cell.cell_len)
        if column.is_numeric:
            line.append(space)
        line.append_text(cell)
        if number < len(columns) - 1:
            line.append(" " * _GAP if column.is_numeric else space + " " * _GAP)
    return line


def _below(cells: "Sequence[tuple[_Column, Text]]", width: int) -> "list[Text]":
    from rich.text import Text

    facts, sentences, commands = [], [], []
    for column, cell in cells:
        text = cell.plain.strip()
        if text in ("", "-"):
            continue
        if text.startswith(_COMMAND):
            commands.append(text)
        elif column.is_prose:
            sentences.append(text)
        else:
            facts.append(f"{column.title} {text}")
    wrapped = [line for text in [", ".join(facts), *sentences] if text for line in _wrapped(text, width)]
    return [Text(line, no_wrap=True, overflow="ignore") for line in [*wrapped, *(_INDENT + each for each in commands)]]


def _wrapped(text: str, width: int) -> list[str]:
    return wrapped(text, width, _INDENT, _INDENT)


def wrapped(text: str, width: int, first: str = "", later: str = "") -> list[str]:
    """Return a text in lines of at most `width`, broken between words only; a longer word has a line of its own."""
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=later, break_long_words=False, break_on_hyphens=False
    )
