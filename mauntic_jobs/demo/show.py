"""Output of the demo: steps, commands, tables and charts on a terminal, and plain text elsewhere."""

import textwrap
import time
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from mauntic_jobs.ops.figures.canvas import Canvas, table
from mauntic_jobs.ops.figures.chart import ramp
from mauntic_jobs.ops.figures.table import Cell

_INDENT = 3
_GAP = 2
_WIDEST_TEXT = 100
_CONTINUATION = " \\"


class Show:
    """Tells the demo's story on `console`, step by step."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._characters = ramp(console.encoding)
        self._steps = 0
        self._started = time.monotonic()

    @property
    def canvas(self) -> Canvas:
        """What figures are drawn on."""
        return Canvas(self._console.width - _INDENT, self._characters)

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
        for line in _continued(command, self._console.width):
            self._line(line, "cyan")

    def text(self, text: str) -> None:
        """Print a paragraph."""
        indent = " " * _INDENT
        width = min(self._console.width, _WIDEST_TEXT)
        for line in textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent):
            self._line(line)

    def done(self, text: str) -> None:
        """Print a paragraph, with the time since the latest command was printed."""
        self.text(f"{text} ({time.monotonic() - self._started:.1f} s)")

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Print a table."""
        self.draw(table(headings, rows))

    def draw(self, lines: Sequence[Text]) -> None:
        """Print lines that were drawn on the canvas."""
        for line in lines:
            self._console.print(Text(" " * _INDENT) + line if line else line, soft_wrap=True)

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Print commands, each with what it does."""
        width = max(len(command) for command, _ in pairs) + _GAP
        for command, purpose in pairs:
            self._console.print(
                Text(f"{'':{_INDENT}}$ {command:{width}}", "cyan") + Text(purpose, "default"), soft_wrap=True
            )

    def blank(self) -> None:
        """Print an empty line."""
        self._console.print()

    def _line(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style), soft_wrap=True)


def _continued(command: str, width: int) -> list[str]:
    """Return a command behind its prompt; one that is longer than the width as lines that a shell reads as one."""
    prompt = f"{'':{_INDENT}}$ "
    if len(prompt + command) <= width:
        return [prompt + command]
    lines = textwrap.wrap(
        command,
        width - len(_CONTINUATION),
        initial_indent=prompt,
        subsequent_indent=" " * (len(prompt) + _GAP),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [*(line + _CONTINUATION for line in lines[:-1]), lines[-1]]
