"""Output of the demo: steps, commands, tables and charts on a terminal, and plain text elsewhere."""

import textwrap
import time
from collections.abc import Sequence
from datetime import date
from uuid import UUID

from rich.console import Console
from rich.text import Text

from mauntic_jobs.demo import chart
from mauntic_jobs.demo.rollups import Rollups

_INDENT = 3
_GAP = 2
_WIDEST_TEXT = 100
_WIDE = 112
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


class Show:
    """Tells the demo's story on `console`, step by step."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._characters = chart.ramp(console.encoding)
        self._steps = 0
        self._started = time.monotonic()

    def title(self, text: str) -> None:
        """Print the headline."""
        self._line(text, "bold")

    def step(self, heading: str, *commands: str) -> None:
        """Begin a step: print what is done, and the commands that do the same."""
        self._steps += 1
        self._console.print()
        self._line(f"{self._steps}. {heading}", "bold")
        for command in commands:
            self.command(command)

    def command(self, command: str) -> None:
        """Print what one would type, and start the clock."""
        self._started = time.monotonic()
        self._line(f"{'':{_INDENT}}$ {command}", "cyan")

    def text(self, text: str) -> None:
        """Print a paragraph."""
        indent = " " * _INDENT
        width = min(self._console.width, _WIDEST_TEXT)
        for line in textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent):
            self._line(line)

    def done(self, text: str) -> None:
        """Print a paragraph, with the time since the latest command was printed."""
        self.text(f"{text} ({time.monotonic() - self._started:.1f} s)")

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str | int]]) -> None:
        """Print rows; a column of integers is aligned to the right. Nothing is cut to fit, since half a number lies."""
        lines = [list(headings), *([_cell(value) for value in row] for row in rows)]
        for column in range(len(headings)):
            width = max(len(line[column]) for line in lines)
            right = all(isinstance(row[column], int) for row in rows)
            for line in lines:
                line[column] = f"{line[column]:{'>' if right else '<'}{width}}"
        for number, line in enumerate(lines):
            text = (" " * _GAP).join(line).rstrip()
            self._line(f"{'':{_INDENT}}{text}", "" if number else "bold")

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Print commands, each with what it does."""
        width = max(len(command) for command, _ in pairs) + _GAP
        for command, purpose in pairs:
            self._console.print(
                Text(f"{'':{_INDENT}}$ {command:{width}}", "cyan") + Text(purpose, "default"), soft_wrap=True
            )

    def overview(self, rollups: Rollups, names: dict[UUID, str], yesterday: date) -> None:
        """Print for each organization its sums, yesterday's distinct readers, and all of its events by day."""
        sums = _MORE_SUMS if self._console.width >= _WIDE else _SUMS
        rows: list[list[str | int]] = [
            [
                name,
                *(sum(rollups.by_day(organization, event_type)) for event_type in sums),
                rollups.distinct.get((organization, "email_opened", yesterday), 0),
            ]
            for organization, name in names.items()
        ]
        headings = ["organization", *sums.values(), "readers"]
        taken = sum(
            max(len(heading), *(len(_cell(row[number])) for row in rows)) + _GAP
            for number, heading in enumerate(headings)
        )
        shown = min(len(rollups.days), self._console.width - _INDENT - taken)
        heading = f"events, last {shown} days"
        if self._console.width - _INDENT - taken >= len(heading):
            headings.append(heading)
            for row, organization in zip(rows, names, strict=True):
                row.append(chart.sparkline(rollups.all_by_day(organization)[-shown:], self._characters))
        self.table(headings, rows)

    def plot(self, rollups: Rollups, organization: UUID) -> None:
        """Print one organization's main event types, as bars by day."""
        room = max(_NARROWEST_CHART, self._console.width - _INDENT - _LABEL)
        width = max(1, min(_WIDEST_BAR, room // len(rollups.days)))
        shown = rollups.days[-(room // width) :]
        for event_type, style in _SERIES.items():
            values = rollups.by_day(organization, event_type)[-len(shown) :]
            labels = [event_type, f"up to {max(values):,}", *[""] * _BAR_HEIGHT]
            lines = chart.bars(values, self._characters, height=_BAR_HEIGHT, width=width)
            for label, line in zip(labels, lines, strict=False):
                self._console.print(Text(f"{'':{_INDENT}}{label:{_LABEL}}") + Text(line, style), soft_wrap=True)
        self._line(f"{'':{_INDENT + _LABEL}}{_mondays(shown, width)}", "dim")

    def blank(self) -> None:
        """Print an empty line."""
        self._console.print()

    def _line(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style), soft_wrap=True)


def _cell(value: str | int) -> str:
    return f"{value:,}" if isinstance(value, int) else value


def _mondays(days: Sequence[date], width: int) -> str:
    """Return an axis that names each Monday under its bar, where it fits."""
    axis = ""
    for number, day in enumerate(days):
        name, position = f"Mo {day:%m-%d}", number * width
        if day.weekday() == 0 and len(axis) <= position and position + len(name) <= len(days) * width:
            axis = f"{axis:{position}}{name} "
    return axis.rstrip()
