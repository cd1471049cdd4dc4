"""Output of dead letters: a few lines for each kind of error, or for each dead letter."""

import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from mauntic_jobs.cli.documents.dead_letters import LetterGroupJson
from mauntic_jobs.cli.framework.output import print_fields, print_line
from mauntic_jobs.job import Row
from mauntic_jobs.ops.dead_letters.dead_letter import DeadLetter
from mauntic_jobs.ops.dead_letters.grouping import Group
from mauntic_jobs.redaction.payloads import mask_text, shorten
from mauntic_jobs.redaction.printable import on_one_line
from mauntic_jobs.wording import plural

_INDENT = "    "
_ERROR_LENGTH = 300
_VALUE_LENGTH = 1000
_UNITS = (("d", timedelta(days=2)), ("h", timedelta(hours=2)), ("m", timedelta(minutes=2)), ("s", timedelta()))
_SIZES = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1), "s": timedelta(seconds=1)}


def ago(instant: datetime, now: datetime) -> str:
    """Return how long ago something was, roughly."""
    age = max(now - instant, timedelta())
    unit = next(unit for unit, least in _UNITS if age >= least)
    return f"{age // _SIZES[unit]}{unit} ago"


def group_lines(group: Group, now: datetime, *, reveal: bool = False) -> list[str]:
    """Return the lines that show a group."""
    first, last = ago(group.first, now), ago(group.last, now)
    when = last if first == last else f"{first} to {last}"
    return [
        f"{group.count:,} x {group.queue}, {when}, fingerprint {group.fingerprint}",
        f"{_INDENT}{_error(group.example, reveal=reveal)}",
        f"{_INDENT}such as {group.example.address}",
    ]


def letter_lines(letter: DeadLetter, now: datetime, *, reveal: bool = False) -> list[str]:
    """Return the lines that show one letter."""
    made = plural(letter.attempts, "attempt")
    return [
        letter.address,
        f"{_INDENT}{ago(letter.failed_at, now)}, {made}, {letter.name}, fingerprint {letter.fingerprint}",
        f"{_INDENT}{_error(letter, reveal=reveal)}",
    ]


def group_json(group: Group, *, reveal: bool = False) -> LetterGroupJson:
    """Return a group for JSON."""
    return {
        "queue": group.queue,
        "fingerprint": group.fingerprint,
        "count": group.count,
        "first": group.first,
        "last": group.last,
        "error": mask_text(group.example.error, reveal=reveal),
        "example": group.example.address,
    }


def print_detail(found: Row) -> None:
    """Print everything that is known of one letter."""
    plain = ("options", "traces", "delivery", "run", "payload")
    rows = [{"field": name, "value": _value(value)} for name, value in found.items() if name not in plain]
    rows += _fields("payload", found["payload"])
    rows += [{"field": f"attempt {n}", "value": trace} for n, trace in enumerate(map(_first_line, found["traces"]), 1)]
    delivery = dict(found["delivery"] or {})
    attempts, events = delivery.pop("attempts", []), delivery.pop("events", [])
    delivery.pop("payload", None)
    rows += _fields("delivery", delivery)
    rows += [{"field": f"sending {n}", "value": _pairs(each)} for n, each in enumerate(attempts, 1)]
    rows += [{"field": "event", "value": _pairs(each)} for each in events]
    rows += _fields("run", found["run"])
    print_fields([(row["field"], row["value"]) for row in rows if row["value"] is not None])


def print_lines(blocks: Sequence[Sequence[str]]) -> None:
    """Print blocks of lines, with an empty line between them; broken to fit a terminal."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for number, block in enumerate(blocks):
        if number:
            print_line("")
        for line in block:
            shown = on_one_line(line)
            print_line(shown if width is None else _broken(shown, width))


def _broken(line: str, width: int) -> str:
    return textwrap.fill(line, width, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False)


def _error(letter: DeadLetter, *, reveal: bool) -> str:
    return shorten(mask_text(letter.error, reveal=reveal), _ERROR_LENGTH)


def _fields(prefix: str, value: object) -> list[Row]:
    if not isinstance(value, Mapping):
        return [{"field": prefix, "value": _value(value)}] if value is not None else []
    return [
        {"field": f"{prefix}.{name}", "value": _value(each)} for name, each in value.items() if each not in (None, "")
    ]


def _value(value: object) -> Any:
    return value if isinstance(value, datetime | int | None) else shorten(value, _VALUE_LENGTH)


def _pairs(value: Mapping[str, object]) -> str:
    return ", ".join(f"{name}: {each}" for name, each in value.items() if each not in (None, ""))


def _first_line(trace: str) -> str:
    return trace.partition("\n")[0]
