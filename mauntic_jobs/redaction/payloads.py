"""Masks for payloads and texts of messages: nothing that names a person, and no credentials."""

import json
import re
from collections.abc import Mapping
from typing import Any

from mauntic_jobs.redaction.text import scrub

# What the field's name says its value is; a number in it would be left alone by what looks at texts only.
_NAMED = (
    (re.compile(r"e-?mail|address|reply_?to|^(?:from|to|cc|bcc)$", re.IGNORECASE), "<address>"),
    (re.compile(r"phone|mobile|msisdn", re.IGNORECASE), "<phone>"),
    (re.compile(r"token|password|secret|api_?key|authorization", re.IGNORECASE), "<secret>"),
    (re.compile(r"unsubscribe_?url", re.IGNORECASE), "<url>"),
)
# What a message is filled in with is about a person, whatever its fields are called.
_PERSONAL = re.compile(r"^(?:template_?data|data|custom_?fields)$", re.IGNORECASE)
_MASKS = ("<address>", "<phone>")
_MAX_DEPTH = 30


def mask_payload(value: Any, *, reveal: bool = False) -> Any:
    """Return a payload, or any value of JSON, with what names a person masked; as it is with `reveal`."""
    return value if reveal else _mask(value, _MAX_DEPTH)


def mask_text(text: str, *, reveal: bool = False) -> str:
    """Return a text, such as an error, with addresses, phone numbers and credentials masked; whole with `reveal`."""
    return text if reveal else scrub(text)


def _mask(value: object, depth: int, *, personal: bool = False) -> object:
    """Return a value; of a `personal` one only where it stands."""
    if depth == 0:
        return "<nested>"
    match value:
        case str():
            shown = scrub(value)
            return "<value>" if personal and shown not in _MASKS else shown
        case int() | float() if personal and not isinstance(value, bool):
            return "<value>"
        case Mapping():
            return {scrub(str(name)): _of_field(str(name), each, depth, personal) for name, each in value.items()}
        case list():
            return [_mask(each, depth - 1, personal=personal) for each in value]
        case _:
            return value


def _of_field(name: str, value: object, depth: int, personal: bool) -> object:
    if isinstance(value, str | int) and not isinstance(value, bool):
        for pattern, mask in _NAMED:
            if pattern.search(name):
                return mask
    return _mask(value, depth - 1, personal=personal or bool(_PERSONAL.search(name)))


def shorten(value: object, length: int) -> str:
    """Return a value as JSON on one line, cut to `length` characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"
