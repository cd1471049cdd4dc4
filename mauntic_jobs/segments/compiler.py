"""Criteria as a SQL condition on `crm.contacts AS contact`.

The field decides what is compared: a column of the allow-list, or else a key of `custom_fields`, which is passed as a
parameter like every value. The value decides how: numbers as numbers, ISO dates as dates, the rest as text without
regard to case. A contact's value that is not of that kind equals nothing, and is never an error.
"""

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from psycopg.sql import SQL, Composable, Identifier, Placeholder

from mauntic_jobs.errors import UsageError
from mauntic_jobs.segments.criteria import Condition, Criteria, Operator
from mauntic_jobs.timekeeping.window import naive, parse_instant


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

# Without counts such as {2}: they make Postgres's matching five times slower.
_NUMBER = "[+-]?[0-9]+([.][0-9]+)?([eE][+-]?[0-9][0-9]?)?"
_DATE = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
_FRACTION = "[.][0-9][0-9]?[0-9]?[0-9]?[0-9]?[0-9]?"
_OFFSET = "(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])"
_TIME = f"{_DATE}([T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]({_FRACTION})?)?{_OFFSET}?)?"
ORDERING = {Operator.GT: SQL(">"), Operator.LT: SQL("<"), Operator.GTE: SQL(">="), Operator.LTE: SQL("<=")}

OPPOSITES = {Operator.IS_NOT_SET, Operator.NEQ, Operator.NOT_IN}

# The pattern keeps out what Postgres would read and we do not mean, such as NaN or `yesterday`.
_AS = {
    ValueKind.TEXT: SQL('lower({}) COLLATE "C"'),
    ValueKind.NUMBER: SQL("CASE WHEN {0} ~ {1} AND mauntic_jobs.input_is_valid({0}, 'numeric') THEN {0}::numeric END"),
    ValueKind.TIME: SQL(
        "CASE WHEN {0} ~ {1} AND mauntic_jobs.input_is_valid({0}, 'timestamptz')"
        " THEN {0}::timestamptz AT TIME ZONE 'UTC' END"
    ),
}
_PATTERNS = {ValueKind.NUMBER: f"^{_NUMBER}$", ValueKind.TIME: f"^{_TIME}$"}


class Compiler:
    """Turns criteria into a condition; `parameters` then holds what its placeholders stand for."""

    def __init__(self) -> None:
        self.parameters: dict[str, object] = {}

    def condition(self, criteria: Criteria) -> Composable:
        """Return a condition on `contact` that is true or false, and never null."""
        if not criteria.conditions:
            return SQL("true")
        joint = SQL(" AND ") if criteria.operator == "and" else SQL(" OR ")
        return SQL("({})").format(joint.join(self._compile(each) for each in criteria.conditions))

    def _compile(self, condition: Condition) -> Composable:
        return self._holds(Field(condition.field, self._bind), condition.operator, condition.value)

    def _holds(self, field: "Field", operator: Operator, value: object) -> Composable:
        """Return a condition that is true or false, and never null."""
        test = self._test(field, operator, value)
        # What is absent, or cannot be compared, makes a test null: no for a plain operator, yes for its opposite.
        return SQL("NOT coalesce({}, false)" if operator in OPPOSITES else "coalesce({}, false)").format(test)

    def _test(self, field: "Field", operator: Operator, value: object) -> Composable:  # noqa: PLR0911 - a table in code
        """Return what the operator asks, or for an opposite what it denies."""
        match operator:
            case Operator.IS_SET | Operator.IS_NOT_SET:
                return SQL("{} <> ''").format(field.text)
            case Operator.CONTAINS:
                return SQL("strpos(lower({}), lower({})) > 0").format(field.text, self._text(value))
            case Operator.NOT_CONTAINS:
                return SQL("strpos(lower({}), lower({})) = 0").format(field.text, self._text(value))
            case Operator.STARTS_WITH:
                return SQL("starts_with(lower({}), lower({}))").format(field.text, self._text(value))
            case Operator.ENDS_WITH:
                # The same as starts_with of what is read from its end, character by character.
                return SQL("starts_with(reverse(lower({})), reverse(lower({})))").format(field.text, self._text(value))
            case Operator.EQ | Operator.NEQ | Operator.IN | Operator.NOT_IN:
                return self._equals(field, value if isinstance(value, list) else [value])
            case ordering:
                return self._compares(field, ORDERING[ordering], value)

    def _compares(self, field: "Field", relation: SQL, value: object) -> Composable:
        kind, comparable = field.read(value, ordering=True)
        if kind is None:
            return SQL("false")
        return SQL("{} {} {}").format(field.of(kind), relation, self._value(kind, comparable))

    def _equals(self, field: "Field", values: Iterable[object]) -> Composable:
        """Compare with any of the values, those of each kind together."""
        by_kind: dict[ValueKind, list[object]] = {}
        for value in values:
            kind, comparable = field.read(value, ordering=False)
            if kind is not None:
                by_kind.setdefault(kind, []).append(comparable)
        tests = [SQL("{} = ANY ({})").format(field.of(kind), self._values(kind, own)) for kind, own in by_kind.items()]
        return SQL("({})").format(SQL(" OR ").join(tests)) if tests else SQL("false")

    def _value(self, kind: ValueKind, value: object) -> Composable:
        bound = self._bind(value)
        return {
            ValueKind.TEXT: SQL('lower({}::text) COLLATE "C"'),
            ValueKind.NUMBER: SQL("{}::numeric"),
            ValueKind.TIME: SQL("{}::timestamp"),
        }[kind].format(bound)

    def _values(self, kind: ValueKind, values: list[object]) -> Composable:
        bound = self._bind(values)
        return {
            ValueKind.TEXT: SQL('ARRAY(SELECT lower(item) COLLATE "C" FROM unnest({}::text[]) AS item)'),
            ValueKind.NUMBER: SQL("{}::numeric[]"),
            ValueKind.TIME: SQL("{}::timestamp[]"),
        }[kind].format(bound)

    def _text(self, value: object) -> Composable:
        return SQL("{}::text").format(self._bind(value))

    def _bind(self, value: object) -> Composable:
        name = f"criteria_{len(self.parameters)}"
        self.parameters[name] = value
        return Placeholder(name)


class Field:
    """What a condition's field stands for: a column, or a key of `custom_fields`."""

    def __init__(self, name: str, bind: Callable[[object], Composable]) -> None:
        self._bind = bind
        self._kind: ValueKind | None = None
        self._value: Composable
        column = _SPELLINGS.get(name)
        if column is None:
            self._value = SQL("(contact.custom_fields ->> {}::text)").format(bind(name))
        else:
            self._kind = COLUMNS[column]
            self._value = Identifier("contact", column)

    @property
    def is_custom(self) -> bool:
        """Whether it is a key of `custom_fields`."""
        return self._kind is None

    @property
    def is_text(self) -> bool:
        """Whether the platform has it as a text: a key of `custom_fields`, or a column of text."""
        return self._kind in (None, ValueKind.TEXT)

    @property
    def text(self) -> Composable:
        """The value as text."""
        return SQL("{}::text").format(self._value)

    def of(self, kind: ValueKind) -> Composable:
        """Return the value as something to compare; null where it is not of that kind."""
        if kind is self._kind and kind is not ValueKind.TEXT:
            return self._value
        if kind is ValueKind.TEXT:
            return _AS[kind].format(self.text)
        return _AS[kind].format(self.text, self._bind(_PATTERNS[kind]))

    def read(self, value: Any, *, ordering: bool) -> tuple[ValueKind | None, Any]:
        """Return what to compare a value as, and the value as that; None where nothing of the field can equal it."""
        if isinstance(value, bool):
            value = str(value).lower()
        if isinstance(value, int | float):
            return (None, None) if self._kind is ValueKind.TIME else (ValueKind.NUMBER, Decimal(str(value)))
        if self._kind is ValueKind.TEXT:
            return ValueKind.TEXT, value
        number = Decimal(value) if re.fullmatch(_NUMBER, value) else None
        time = _time(value)
        if self._kind is ValueKind.NUMBER:
            return (ValueKind.NUMBER, number) if number is not None else (None, None)
        if self._kind is ValueKind.TIME or time is not None:
            return (ValueKind.TIME, time) if time is not None else (None, None)
        # A code such as 007 is a text; it is a number only where it is asked whether something is more than it.
        return (ValueKind.NUMBER, number) if ordering and number is not None else (ValueKind.TEXT, value)


def _camel(column: str) -> str:
    first, *rest = column.split("_")
    return first + "".join(part.capitalize() for part in rest)


_SPELLINGS = {spelling: column for column in COLUMNS for spelling in (column, _camel(column))}


def _time(text: str) -> datetime | None:
    if not re.fullmatch(_TIME, text):
        return None
    try:
        return naive(parse_instant(text))
    except UsageError:
        return None
