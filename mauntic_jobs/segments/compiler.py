"""Criteria as a SQL condition on `crm.contacts AS contact`.

The field decides what is compared: a column of the allow-list, or else a key of `custom_fields`, which is passed as a
parameter like every value. The value decides how: numbers as numbers, ISO dates as dates, the rest as text without
regard to case. A contact's value that is not of that kind equals nothing, and is never an error.

Where many criteria are evaluated together, a `Compiler` with a `Share` has each value of a contact read and converted
once for all of them: see `hits`.
"""

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from psycopg.sql import SQL, Composable, Identifier, Placeholder

from mauntic_jobs.errors import UsageError
from mauntic_jobs.segments.columns import COLUMNS, SPELLINGS, ValueKind
from mauntic_jobs.segments.criteria import Condition, Criteria, Operator
from mauntic_jobs.timekeeping.window import naive, parse_instant

# Without counts such as {2}: they make Postgres's matching five times slower.
_NUMBER = "[+-]?[0-9]+([.][0-9]+)?([eE][+-]?[0-9][0-9]?)?"
_DATE = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
_FRACTION = "[.][0-9][0-9]?[0-9]?[0-9]?[0-9]?[0-9]?"
_OFFSET = "(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])"
_TIME = f"{_DATE}([T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]({_FRACTION})?)?{_OFFSET}?)?"
ORDERING = {Operator.GT: SQL(">"), Operator.LT: SQL("<"), Operator.GTE: SQL(">="), Operator.LTE: SQL("<=")}

OPPOSITES = {Operator.IS_NOT_SET, Operator.NEQ, Operator.NOT_IN}
_OF_PRESENCE = {Operator.IS_SET, Operator.IS_NOT_SET}

# Operators whose answer only a write can change. One that compares with the present, as "in the last 7 days" does, must
# not be here: what is not known to be independent of time counts as dependent.
TIMELESS = frozenset(
    {
        *(Operator.EQ, Operator.NEQ, Operator.GT, Operator.LT, Operator.GTE, Operator.LTE, Operator.CONTAINS),
        *(Operator.NOT_CONTAINS, Operator.STARTS_WITH, Operator.ENDS_WITH, Operator.IN, Operator.NOT_IN),
        *(Operator.IS_SET, Operator.IS_NOT_SET),
    }
)

# Forms of a field's value beside those of `ValueKind`: as it is stored, as text, and as text in lower case.
STORED, _WRITTEN, _LOWERED = "stored", "written", "lowered"

# Makes a value of a contact's, by field and form, or finds it made.
Share = Callable[["Field", str, Callable[[], Composable]], Composable]

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


def depends_on_time(criteria: Criteria) -> bool:
    """Return whether a contact may become a member without a write, by the passing of time alone."""
    return not all(condition.operator in TIMELESS for condition in criteria.conditions)


class ConditionParts(NamedTuple):
    """One condition as SQL: the contact's value as text, whether it can be compared, and whether the condition holds.

    `column` is the one of `crm.contacts` that it reads, None for a key of `custom_fields`.
    """

    column: str | None
    value: Composable
    compared: Composable
    holds: Composable


class Compiler:
    """Turns criteria into conditions; `parameters` then holds what their placeholders stand for.

    `share` decides where a value of a contact comes from; without one each condition reads and converts its own.
    """

    def __init__(self, share: Share | None = None) -> None:
        self.parameters: dict[str, object] = {}
        self._share = share or (lambda _field, _form, build: build())

    def condition(self, criteria: Criteria) -> Composable:
        """Return a condition on `contact` that is true or false, and never null."""
        if not criteria.conditions:
            return SQL("true")
        joint = SQL(" AND ") if criteria.operator == "and" else SQL(" OR ")
        return SQL("({})").format(joint.join(self.holds(each) for each in criteria.conditions))

    def parts(self, condition: Condition) -> ConditionParts:
        """Return the parts of one condition, to show how a contact is judged by it."""
        field, operator, value = self.field(condition), condition.operator, condition.value
        compared = SQL("true") if operator in _OF_PRESENCE else self._compared(field, operator, value)
        return ConditionParts(field.column, field.text, compared, self._holds(field, operator, value))

    def field(self, condition: Condition) -> "Field":
        """Return what a condition's field stands for."""
        return Field(condition.field, self.bind, self._share)

    def holds(self, condition: Condition) -> Composable:
        """Return one condition on `contact`, which is true or false, and never null."""
        return self._holds(self.field(condition), condition.operator, condition.value)

    def bind(self, value: object) -> Composable:
        """Return the placeholder of a parameter that is this value."""
        name = f"criteria_{len(self.parameters)}"
        self.parameters[name] = value
        return Placeholder(name)

    def _compared(self, field: "Field", operator: Operator, value: object) -> Composable:
        """Return whether the contact has a value that can be compared: without one a test is null."""
        return SQL("({}) IS NOT NULL").format(self._test(field, operator, value))

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
                return SQL("strpos({}, lower({})) > 0").format(field.lowered, self._text(value))
            case Operator.NOT_CONTAINS:
                return SQL("strpos({}, lower({})) = 0").format(field.lowered, self._text(value))
            case Operator.STARTS_WITH:
                return SQL("starts_with({}, lower({}))").format(field.lowered, self._text(value))
            case Operator.ENDS_WITH:
                # The same as starts_with of what is read from its end, character by character.
                return SQL("starts_with(reverse({}), reverse(lower({})))").format(field.lowered, self._text(value))
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
        bound = self.bind(value)
        return {
            ValueKind.TEXT: SQL('lower({}::text) COLLATE "C"'),
            ValueKind.NUMBER: SQL("{}::numeric"),
            ValueKind.TIME: SQL("{}::timestamp"),
        }[kind].format(bound)

    def _values(self, kind: ValueKind, values: list[object]) -> Composable:
        bound = self.bind(values)
        return {
            ValueKind.TEXT: SQL('ARRAY(SELECT lower(item) COLLATE "C" FROM unnest({}::text[]) AS item)'),
            ValueKind.NUMBER: SQL("{}::numeric[]"),
            ValueKind.TIME: SQL("{}::timestamp[]"),
        }[kind].format(bound)

    def _text(self, value: object) -> Composable:
        return SQL("{}::text").format(self.bind(value))


class Field:
    """What a condition's field stands for: a column, or a key of `custom_fields`."""

    def __init__(self, name: str, bind: Callable[[object], Composable], share: Share) -> None:
        self._bind = bind
        self._share = share
        self._column = SPELLINGS.get(name)
        self._name = self._column or f"custom_fields.{name}"
        self._key = name
        self._kind = COLUMNS[self._column] if self._column else None

    @property
    def name(self) -> str:
        """The column's name, or `custom_fields` and the key."""
        return self._name

    @property
    def kind(self) -> ValueKind | None:
        """What a column holds, None for a key of `custom_fields`."""
        return self._kind

    @property
    def column(self) -> str | None:
        """The column that it is, None for a key of `custom_fields`."""
        return self._column

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
        return self._share(self, _WRITTEN, self._text)

    @property
    def lowered(self) -> Composable:
        """The value as text in lower case."""
        return self._share(self, _LOWERED, lambda: SQL("lower({})").format(self._text()))

    def of(self, kind: ValueKind) -> Composable:
        """Return the value as something to compare; null where it is not of that kind."""
        return self._share(self, kind.value, lambda: self._converted(kind))

    def _converted(self, kind: ValueKind) -> Composable:
        if kind is self._kind and kind is not ValueKind.TEXT:
            return self._value()
        if kind is ValueKind.TEXT:
            return _AS[kind].format(self._text())
        return _AS[kind].format(self._text(), self._bind(_PATTERNS[kind]))

    def _text(self) -> Composable:
        return SQL("{}::text").format(self._value())

    def _value(self) -> Composable:
        return self._share(self, STORED, lambda: self.stored)

    @property
    def stored(self) -> Composable:
        """The value as `crm.contacts AS contact` has it."""
        if self._column is not None:
            return Identifier("contact", self._column)
        return SQL("(contact.custom_fields ->> {}::text)").format(self._bind(self._key))

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


def _time(text: str) -> datetime | None:
    if not re.fullmatch(_TIME, text):
        return None
    try:
        return naive(parse_instant(text))
    except UsageError:
        return None
