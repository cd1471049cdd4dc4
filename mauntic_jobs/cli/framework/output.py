"""Output of commands: data on stdout, messages on stderr; no markup and no wrapping where a program reads."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from mauntic_jobs.cli.framework.table_layout import table_lines, wrapped
from mauntic_jobs.redaction.printable import json_text, on_one_line, printable
from mauntic_jobs.telemetry.logs import emit, structured
from mauntic_jobs.telemetry.stderr import write_line
from mauntic_jobs.wording import counted

# Wider than any line.
_NO_END = 10_000


def log(message: str, level: str = "info") -> None:
    """Tell the person at the terminal something, on stderr; where logs are JSON, as a line of them."""
    if structured():
        emit(level, message)
    else:
        write_line(message)


def log_done(message: str) -> None:
    """Tell the person at the terminal that something is done: in green, where there are colors."""
    if structured() or not sys.stderr.isatty():
        log(message)
        return
    from rich.text import Text

    print_rich(Text(message, "green"), to_stderr=True)


def print_line(text: str) -> None:
    """Print one line of data."""
    print(printable(text), flush=True)


def print_json(value: object) -> None:
    """Print a value as JSON: times in ISO 8601, indented on a terminal, one line elsewhere."""
    print(json_text(value, indent=2 if sys.stdout.isatty() else None))


def print_table(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = (), *, wide: bool = False, to_stderr: bool = False
) -> None:
    """Print rows as a table; the columns are the first row's keys unless given. A rich Text keeps its style.

    On a terminal, columns that do not fit go below their row, and ids lose their middle unless it is `wide`.
    """
    from rich.console import Group
    from rich.text import Text

    rows = list(rows)
    names = columns or list(rows[0]) if rows else columns
    numeric = [name for name in names if rows and all(isinstance(row[name], int | float | None) for row in rows)]
    cells = [
        {name: row[name] if isinstance(row[name], Text) else Text(_cell(row[name])) for name in names} for row in rows
    ]
    lines = table_lines(cells, names, numeric, terminal_width(to_stderr=to_stderr), wide=wide)
    print_rich(Group(*lines), to_stderr=to_stderr)


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one below the other; on a terminal, long values are broken between words."""
    from rich.console import Group
    from rich.text import Text

    shown = [(name, _cell(value)) for name, value in fields]
    width = terminal_width()
    indent = " " * (max((len(name) for name, _ in shown), default=0) + 2)
    lines: list[Text] = []
    for name, value in shown:
        parts = wrapped(value, width, indent, indent) or [indent]
        parts[0] = f"{name:<{len(indent)}}{parts[0][len(indent) :]}".rstrip()
        lines += [Text(part, no_wrap=True, overflow="ignore") for part in parts]
        lines[-len(parts)].stylize("bold", 0, len(name))
    print_rich(Group(*lines))


def terminal_width(*, to_stderr: bool = False) -> int:
    """Return how many columns the terminal has; more than any line has where a program reads."""
    from rich.console import Console

    console = Console(stderr=to_stderr)
    return console.width if console.is_terminal else _NO_END


def print_rich(renderable: object, *, to_stderr: bool = False) -> None:
    """Print what Rich can render: to the terminal's width, or as plain lines of any length where a program reads."""
    from rich.console import Console

    console = Console(stderr=to_stderr, markup=False, highlight=False)
    if console.is_terminal:
        # A line that may not be broken is longer than the terminal is wide, which shows it in several.
        console.print(Escaped(renderable), crop=False)
        return
    # Rich would wrap at 80 columns, and pad each line, what a program reads.
    console.width = _NO_END
    with console.capture() as capture:
        console.print(Escaped(renderable))
    for line in capture.get().splitlines():
        print(line.rstrip(), file=console.file)


class Escaped:
    """What Rich can render, with the controls in its texts as escapes."""

    def __init__(self, renderable: object) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Any, options: object) -> Iterator[Any]:
        """Yield the segments of the renderable."""
        for segment in console.render(self._renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def counters_text(counters: Mapping[str, int]) -> str:
    """Return a job's counters as text, without those that are zero: `1 day, 1,234 events, 12 unchanged`."""
    return ", ".join(counted(count, name) for name, count in counters.items() if count) or "nothing to do"


def _cell(value: object) -> str:
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
