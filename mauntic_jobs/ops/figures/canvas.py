"""Canvas that figures are drawn on: how wide it is, and which characters it can show."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mauntic_jobs.ops.figures.chart import BLOCKS
from mauntic_jobs.ops.figures.lineage import Provenance
from mauntic_jobs.ops.figures.table import WIDE, WIDE_IDS, Cell, table_text, time_text

if TYPE_CHECKING:
    from rich.text import Text

# Sentences below tables fit the narrowest terminal, and the demo's indent.
_NARROW = 76


@dataclass(frozen=True)
class Canvas:
    """Columns, characters of bars from nothing to full, and whether ids are shown whole."""

    width: int
    characters: str = BLOCKS
    whole_ids: bool = False

    @property
    def wide(self) -> bool:
        """Whether there is room for more columns than 80."""
        return self.width >= WIDE

    @property
    def ids_whole(self) -> bool:
        """Whether ids are shown whole."""
        return self.whole_ids or self.width >= WIDE_IDS


def table(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> "list[Text]":
    """Return a table's lines, its headings bold."""
    from rich.text import Text

    head, *body = table_text(headings, rows)
    return [Text(head, "bold"), *(Text(line) for line in body)]


def left_out(number: int, limit: int) -> "list[Text]":
    """Return a line that says how many of `number` rows a table of at most `limit` does not show."""
    from rich.text import Text

    return [Text(f"and {number - limit:,} more: --limit shows them", "dim")] if number > limit else []


def heading(text: str) -> "list[Text]":
    """Return a bold line."""
    from rich.text import Text

    return [Text(text, "bold")]


def section(text: str) -> "list[Text]":
    """Return a bold line below an empty one."""
    return [*blank(), *heading(text)]


def paragraph(text: str) -> "list[Text]":
    """Return sentences in lines that fit the narrowest terminal; words and ids stay whole."""
    from rich.text import Text

    return [Text(line) for line in textwrap.wrap(text, _NARROW, break_long_words=False, break_on_hyphens=False)]


def blank() -> "list[Text]":
    """Return an empty line."""
    from rich.text import Text

    return [Text()]


def written_by(provenance: Provenance, *, rebuilt: str = "Rebuilt", changed: str = "changed them") -> "list[Text]":
    """Return the lines that say which run rebuilt figures last, and which changed one of them last."""
    from rich.text import Text

    return [Text(line, "dim") for line in textwrap.wrap(_written(provenance, rebuilt, changed), _NARROW)]


def _written(provenance: Provenance, rebuilt: str, changed: str) -> str:
    if provenance.run is None:
        return "No run of the ledger has rebuilt them: another program may have, or the run was pruned."
    first = f"{rebuilt} last by run {provenance.run} at {time_text(provenance.run_at)} UTC"
    if provenance.changed_run is None:
        return f"{first}; no run of the ledger {changed}."
    if provenance.changed_run == provenance.run:
        return f"{first}, which {changed}."
    at = time_text(provenance.changed_at)
    return f"{first}; run {provenance.changed_run} at {at} UTC was the last that {changed}."
