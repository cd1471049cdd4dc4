"""Texts of others as they may be shown: control characters as escapes, so that none controls a terminal.

Job names, ids, reasons, addresses and subjects come from tenants, providers and other programs.
"""

import json
import re
from datetime import date, datetime
from uuid import UUID

# All controls but line feed and tab; separators of lines and paragraphs; marks that turn the direction of text or
# cannot be seen, tags among them; halves of surrogate pairs. Joiners and soft hyphens stay: scripts need them.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
_FIRST_ASTRAL = 0x10000


def printable(text: str) -> str:
    """Return a text of several lines with controls as escapes of JSON, so that JSON stays the same value."""
    return text if text.isascii() and text.isprintable() else _CONTROLS.sub(_escaped, text)


def json_text(value: object, *, indent: int | None = None) -> str:
    """Return a value as JSON that may be shown, on one line unless there is an indent: times in ISO 8601."""
    return printable(json.dumps(value, default=_jsonable, indent=indent, ensure_ascii=False))


def on_one_line(text: str) -> str:
    """Return a text with its line feeds and tabs as escapes too."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _jsonable(value: object) -> str:
    match value:
        case datetime() | date():
            return value.isoformat()
        case UUID():
            return str(value)
        case _:
            raise TypeError(f"{type(value).__name__} has no JSON form")


def _escaped(match: re.Match[str]) -> str:
    number = ord(match[0])
    if number < _FIRST_ASTRAL:
        return f"\\u{number:04x}"
    high, low = divmod(number - _FIRST_ASTRAL, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
