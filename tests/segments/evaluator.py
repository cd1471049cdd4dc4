"""Segment criteria evaluated in Python, for one contact: an independent reading of what they mean."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

_TEXT = {"id", "organizationId", "email", "firstName", "lastName", "phone", "status", "stage", "leadGrade"}
_TIMES = {"lastActivityAt", "createdAt", "updatedAt"}


def matches(criteria: Mapping[str, Any], contact: Mapping[str, Any]) -> bool:
    """Whether a contact, as a mapping of snake_case columns, is in the segment."""
    results = [_holds(condition, contact) for condition in criteria.get("conditions", [])]
    if not results:
        return True
    return all(results) if criteria.get("operator", "and") == "and" else any(results)


def _holds(condition: Mapping[str, Any], contact: Mapping[str, Any]) -> bool:  # noqa: PLR0911 - a rule each
    operator = condition["operator"]
    wanted: Any = condition.get("value")
    column, found = _look_up(condition["field"], contact)
    if operator == "is_set":
        return found is not None and found != ""
    if operator == "is_not_set":
        return found is None or found == ""
    if operator in ("neq", "not_in"):
        return not _holds({**condition, "operator": {"neq": "eq", "not_in": "in"}[operator]}, contact)
    if operator == "in":
        return any(_holds({**condition, "operator": "eq", "value": item}, contact) for item in wanted)
    if found is None:
        return False
    if operator in ("contains", "not_contains"):
        return bool((wanted.lower() in _as_text(found).lower()) == (operator == "contains"))
    if operator == "starts_with":
        return bool(_as_text(found).lower().startswith(wanted.lower()))
    if operator == "ends_with":
        return bool(_as_text(found).lower().endswith(wanted.lower()))
    return _compare(operator, column, found, wanted)


def _look_up(field: str, contact: Mapping[str, Any]) -> tuple[str | None, Any]:
    camel = re.sub(r"_([a-z])", lambda match: match[1].upper(), field)
    if camel in _TEXT | _TIMES | {"leadScore"}:
        return camel, contact[re.sub(r"([A-Z])", lambda match: "_" + match[1].lower(), camel)]
    return None, (contact["custom_fields"] or {}).get(field)


def _compare(operator: str, column: str | None, found: Any, wanted: Any) -> bool:
    if isinstance(wanted, bool):
        wanted = "true" if wanted else "false"
    left, right = _pair(operator, column, found, wanted)
    if left is None or right is None:
        return False
    return bool(
        {
            "eq": left == right,
            "gt": left > right,
            "lt": left < right,
            "gte": left >= right,
            "lte": left <= right,
        }[operator]
    )


def _pair(operator: str, column: str | None, found: Any, wanted: Any) -> tuple[Any, Any]:
    if isinstance(wanted, int | float):
        return (None, None) if column in _TIMES else (_number(found), _number(wanted))
    if column == "leadScore":
        return _number(found), _number(wanted)
    if column in _TIMES:
        return found, _time(wanted)
    if column is None and _time(wanted) is not None:
        return _time(found), _time(wanted)
    if column is None and operator != "eq" and _number(wanted) is not None:
        return _number(found), _number(wanted)
    return _as_text(found).lower(), wanted.lower()


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return format(Decimal(str(value)), "f") if isinstance(value, float) else str(value)


def _number(value: Any) -> Decimal | None:
    text = _as_text(value)
    return Decimal(text) if re.fullmatch(r"[+-]?\d+(\.\d+)?([eE][+-]?\d{1,2})?", text, re.ASCII) else None


def _time(value: Any) -> datetime | None:
    if not isinstance(value, str) or not re.match(r"\d{4}-\d\d-\d\d($|[T ]\d\d:\d\d)", value, re.ASCII):
        return None
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        return None
    return instant.astimezone(UTC).replace(tzinfo=None) if instant.tzinfo else instant
