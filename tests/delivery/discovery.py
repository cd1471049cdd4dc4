"""Google's own description of the FCM API, and what it says of a request."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import googleapiclient  # type: ignore[import-untyped]  # it ships no types

_DOCUMENT = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents" / "fcm.v1.json"
_DURATION = re.compile(r"\d+(\.\d{1,9})?s")
_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "object": dict,
    "array": list,
}


def problems(request: Any) -> list[str]:
    """Return what is wrong with the body of a request to send a message."""
    return list(_problems(request, {"$ref": "SendMessageRequest"}, "request"))


@cache
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(_DOCUMENT.read_text())
    return loaded


def _problems(value: Any, schema: dict[str, Any], place: str) -> list[str]:
    if "$ref" in schema:
        schema = document()["schemas"][schema["$ref"]]
    kind = schema["type"]
    if kind == "any":
        return []
    if not _is(value, kind):
        return [f"{place} is not of the type {kind}"]
    if schema.get("format") == "google-duration" and not _DURATION.fullmatch(value):
        return [f"{place} is not a duration"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{place} is not one of {schema['enum']}"]
    if kind == "array":
        return [each for item in value for each in _problems(item, schema["items"], f"{place}[]")]
    return _problems_of_fields(value, schema, place) if kind == "object" else []


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _problems_of_fields(value: dict[str, Any], schema: dict[str, Any], place: str) -> list[str]:
    found = []
    for name, each in value.items():
        own = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
        found += _problems(each, own, f"{place}.{name}") if own else [f"{place} has no field {name}"]
    return found
