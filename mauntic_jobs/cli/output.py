"""What commands print: data on stdout, talk on stderr; no markup, no wrapping where a program reads."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from mauntic_jobs.printable import on_one_line, printable
from mauntic_jobs.telemetry.logs import emit, structured
from mauntic_jobs.telemetry.stderr import write_line


def say(message: str, level: str = "info") -> None:
    """Tell the person at the terminal something, on stderr; where logs are JSON, as a line of them."""
    if structured():
        emit(level, message)
    else:
        write_line(message)


def print_line(text: str) -> None:
    """Print one line of data."""
    print(printable(text), flush=True)


def print_json(value: Any) -> None:
    """Print a value as JSON: times in ISO 8601, indented on a terminal, one line elsewhere."""
    text = json.dumps(value, default=_jsonable, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False)
    print(printable(text))


def print_table(
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[str] = (),
    *,
    unbroken: Sequence[str] = (),
    to_stderr: bool = False,
) -> None:
    """Print rows as a table; the columns are the first row's keys unless given. A rich Text keeps its style.

    Cells are broken to fit the terminal, except those of `unbroken` columns.
    """
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    names = columns or list(rows[0]) if rows else columns
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in names:
        numeric = bool(rows) and all(isinstance(row[name], int | float | None) for row in rows)
        table.add_column(
            name.replace("_", " "), justify="right" if numeric else "left", overflow="fold", no_wrap=name in unbroken
        )
    for row in rows:
        cells = [row[name] for name in names]
        table.add_row(*(cell if isinstance(cell, Text) else Text(_cell(cell)) for cell in cells))
    print_rich(table, to_stderr=to_stderr)


def print_rich(renderable: Any, *, to_stderr: bool = False) -> None:
    """Print what Rich can render: to the terminal's width, or as plain lines of any length where a program reads."""
    from rich.console import Console

    console = Console(stderr=to_stderr, markup=False, highlight=False)
    if console.is_terminal:
        console.print(Shown(renderable))
        return
    # Rich would wrap at 80 columns, and pad each line, what a program reads.
    console.width = 10_000
    with console.capture() as capture:
        console.print(Shown(renderable))
    for line in capture.get().splitlines():
        print(line.rstrip(), file=console.file)


class Shown:
    """What Rich can render, with the controls in its texts as escapes."""

    def __init__(self, renderable: Any) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        """Yield the segments of the renderable."""
        for segment in console.render(self._renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: `1 day`, `1,234 days`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def counted(counters: Mapping[str, int]) -> str:
    """Return a job's counters as text, without those that are zero: `1 day, 1,234 events, 12 unchanged`."""
    parts = [
        plural(count, name.removesuffix("s")) if name.endswith("s") else f"{count:,} {name}"
        for name, count in counters.items()
        if count
    ]
    return ", ".join(parts) or "nothing to do"


def _cell(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.1f}"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
        case _:
            return on_one_line(str(value))


def _jsonable(value: Any) -> Any:
    match value:
        case datetime() | date():
            return value.isoformat()
        case UUID():
            return str(value)
        case _:
            raise TypeError(f"{type(value).__name__} has no JSON form")
