"""Output of figures: a table on a terminal, CSV, or JSON."""

import csv
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints
from uuid import UUID

from mauntic_jobs.cli.documents.figures import FigureChangeJson, WrittenJson
from mauntic_jobs.cli.framework.output import log, print_json, print_line, print_rich, terminal_width
from mauntic_jobs.errors import UsageError
from mauntic_jobs.ops.figures.canvas import Canvas
from mauntic_jobs.ops.figures.chart import ramp
from mauntic_jobs.ops.figures.history import FigureChange, changes_table

if TYPE_CHECKING:
    from rich.text import Text


class FigureFormat(NamedTuple):
    """How figures are printed: as a table unless `csv` or `json` says otherwise."""

    csv: bool
    json: bool

    @property
    def for_programs(self) -> bool:
        """Whether a program reads them."""
        return self.csv or self.json


def figure_format(*, csv: bool, json: bool, org: UUID | None = None, history: bool = False) -> FigureFormat:
    """Return how figures are printed. Raises UsageError for both ways, and for a history of all organizations."""
    if csv and json:
        raise UsageError("Say either --csv or --json.")
    if history and org is None:
        # It would be millions of rows.
        raise UsageError("--history needs --org: say of which organization.")
    return FigureFormat(csv, json)


class Missing(NamedTuple):
    """Figures that are not recorded, and the command that records them."""

    what: str
    command: str


def canvas(*, wide: bool) -> Canvas:
    """Return what the terminal can show; a program that reads gets whole ids."""
    return Canvas(terminal_width(), ramp(sys.stdout.encoding), whole_ids=wide)


def print_records(records: Sequence[Mapping[str, object]], document: object, wanted: FigureFormat) -> bool:
    """Print records as CSV or as JSON if that is wanted, and return whether it was; `document` declares the fields."""
    if wanted.json:
        print_json(records)
    elif wanted.csv:
        print_csv(fields(document), records)
    return wanted.for_programs


def print_drawing(lines: "Sequence[Text]") -> None:
    """Print what was drawn."""
    for line in lines:
        line.no_wrap, line.overflow = True, "ignore"
        print_rich(line)


def print_figures(
    rows: Sequence[object],
    document: object,
    wanted: FigureFormat,
    draw: "Callable[[], Sequence[Text]]",
    missing: Missing,
) -> None:
    """Print rows as the records that `document` declares, or as what `draw` makes of them; say if there are none."""
    if not rows:
        log(f"No {missing.what}. To record them from the raw events: {missing.command}")
    if not print_records([_record(row, document) for row in rows], document, wanted) and rows:
        print_drawing(draw())


def _record(row: Any, document: object) -> dict[str, object]:
    """Return a row with its provenance as flat fields, those of `document`."""
    values = {**row._asdict(), **row.written._asdict()}
    return {name: values[name] for name in fields(document)}


def print_changes(changes: Sequence[FigureChange], wanted: FigureFormat, limit: int) -> None:
    """Print what runs changed in figures."""
    if not print_records([each._asdict() for each in changes], FigureChangeJson, wanted):
        print_drawing(changes_table(changes, limit))


def fields(document: object) -> Sequence[str]:
    """Return the fields of a document in the order of CSV: its own first, and then who wrote it."""
    names = get_type_hints(document)
    last = WrittenJson.__annotations__ if "run_at" in names else {}
    return [*(name for name in names if name not in last), *last]


def print_csv(names: Sequence[str], records: Sequence[Mapping[str, object]]) -> None:
    """Print records as RFC 4180 has it, but with plain line ends; a field without a value is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(each[name]) for name in names] for each in records)
    print_line(text.getvalue().removesuffix("\n"))


def _cell(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime | date) else value
