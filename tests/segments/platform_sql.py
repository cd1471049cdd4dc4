"""Criteria as the platform's query builder writes them: SQL text with literals, made apart from the compiler.

A column is compared as its type, text by ILIKE; a key of `custom_fields` is `custom_fields ->> 'key'`, a text. Three
kinds of conditions are left out: those with an operator that is not known, and `in` and `not_in` without values.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

_TEXTS = {"id", "organization_id", "email", "first_name", "last_name", "phone", "status", "stage", "lead_grade"}
_TIMES = {"last_activity_at", "created_at", "updated_at"}
_SIGNS = {"eq": "=", "neq": "<>", "gt": ">", "lt": "<", "gte": ">=", "lte": "<="}
_PATTERNS = {
    "contains": ("ILIKE", "%{}%"),
    "not_contains": ("NOT ILIKE", "%{}%"),
    "starts_with": ("ILIKE", "{}%"),
    "ends_with": ("ILIKE", "%{}"),
}


def platform_sql(criteria: Mapping[str, Any]) -> str:
    """Return the WHERE clause for criteria."""
    parts = [part for part in map(_condition, criteria.get("conditions", [])) if part]
    joint = " OR " if criteria.get("operator") == "or" else " AND "
    return "(" + joint.join(parts) + ")" if parts else "TRUE"


def _condition(condition: Mapping[str, Any]) -> str | None:
    field, operator, value = condition["field"], condition["operator"], condition.get("value")
    column = re.sub(r"(?<=[a-z])([A-Z])", lambda match: "_" + match[1].lower(), field)
    if column not in _TEXTS | _TIMES | {"lead_score"}:
        return _of_text(f"(custom_fields ->> {_literal(field)})", operator, value, equal=_same)
    if column in _TEXTS or operator not in (*_SIGNS, "in", "not_in"):
        return _of_text(f"{column}::text", operator, value, equal=_alike)
    cast = "timestamp" if column in _TIMES else "numeric"
    if operator in _SIGNS:
        return f"{column} {_SIGNS[operator]} {_literal(value)}::{cast}"
    values = ", ".join(f"{_literal(each)}::{cast}" for each in value or [])
    return f"{column} {'IN' if operator == 'in' else 'NOT IN'} ({values})" if value else None


def _of_text(text: str, operator: str, value: Any, equal: Any) -> str | None:
    if operator in _PATTERNS:
        relation, pattern = _PATTERNS[operator]
        return f"{text} {relation} {_literal(pattern.format(_escaped(value)))}"
    if operator in ("in", "not_in"):
        either = " OR ".join(equal(text, each) for each in value)
        return f"{'NOT ' * (operator == 'not_in')}({either})" if value else None
    fixed = {
        "is_set": f"({text} IS NOT NULL AND {text} <> '')",
        "is_not_set": f"({text} IS NULL OR {text} = '')",
        "eq": equal(text, value),
        "neq": f"NOT {equal(text, value)}",
    }
    ordered = f"{text} {_SIGNS[operator]} {_literal(value)}" if operator in _SIGNS else None
    return fixed.get(operator, ordered)


def _same(text: str, value: Any) -> str:
    return f"({text} = {_literal(value)})"


def _alike(text: str, value: Any) -> str:
    return f"({text} ILIKE {_literal(_escaped(_written(value)))})"


def _written(value: Any) -> str:
    """Write a value as JavaScript does; the numbers of these tests look the same in JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def _literal(value: Any) -> str:
    text = _written(value).replace("'", "''").replace("\\", "\\\\")
    return f"E'{text}'"


def _escaped(text: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", text)
