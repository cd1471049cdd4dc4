"""Columns of `crm.contacts` that criteria may name, as what they are compared, and how they are spelled."""

from enum import StrEnum


class ValueKind(StrEnum):
    """What values are compared as."""

    TEXT = "text"
    NUMBER = "number"
    TIME = "time"


COLUMNS = {
    "id": ValueKind.TEXT,
    "organization_id": ValueKind.TEXT,
    "email": ValueKind.TEXT,
    "first_name": ValueKind.TEXT,
    "last_name": ValueKind.TEXT,
    "phone": ValueKind.TEXT,
    "status": ValueKind.TEXT,
    "stage": ValueKind.TEXT,
    "lead_score": ValueKind.NUMBER,
    "lead_grade": ValueKind.TEXT,
    "last_activity_at": ValueKind.TIME,
    "created_at": ValueKind.TIME,
    "updated_at": ValueKind.TIME,
}


def _camel(column: str) -> str:
    first, *rest = column.split("_")
    return first + "".join(part.capitalize() for part in rest)


SPELLINGS = {spelling: column for column in COLUMNS for spelling in (column, _camel(column))}


def column_of(field: str) -> str:
    """Return the column of `crm.contacts` that a field of criteria is in."""
    return SPELLINGS.get(field, "custom_fields")
