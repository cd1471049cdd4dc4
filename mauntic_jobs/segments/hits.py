"""Statements that find which of many segments each contact belongs to, in one scan of the contacts.

A contact's hits are a string of bits, one for each segment. A condition that several segments ask is evaluated once for
all of them. A field that many conditions ask has a lateral subquery of its own, whose answers Postgres remembers by the
field's value (Memoize) where the statistics of `mauntic_jobs_values` say that values repeat: then its conditions are
evaluated once for each value, not for each contact.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field as dataclass_field
from typing import Any, TypeVar

from psycopg.sql import SQL, Composable, Identifier

from mauntic_jobs.job import Row
from mauntic_jobs.segments.columns import ValueKind
from mauntic_jobs.segments.compiler import STORED, Field, Share
from mauntic_jobs.segments.criteria import Condition, Criteria, parse_criteria
from mauntic_jobs.segments.members import COMPILERS
from mauntic_jobs.settings.types import SegmentReading
from mauntic_jobs.sql import statements

# The columns of `mauntic_jobs_values` for text.
MAX_REMEMBERED = 8
# Fewer conditions cost less than to look an answer up.
MIN_CONDITIONS = 3
# Bits are put together in numbers of so many.
WORD = 64
_OF_WORD = frozenset(range(WORD))

_sql = statements("segment_triggers")

Statement = tuple[bytes, dict[str, object]]
_Key = TypeVar("_Key")


def hits_statements(segments: Sequence[Row], reading: SegmentReading, *, changed: bool) -> list[Statement]:
    """Return the statements that put the contacts with their hits into the table `mauntic_jobs_hits`.

    All contacts of the parameter `organization` are looked at, which the caller adds, or with `changed` those in
    `mauntic_jobs_changed`. Raises JobFailedError if criteria cannot be used.
    """
    width = len(segments)
    static = [number for number, segment in enumerate(segments) if segment["type"] == "static"]
    dynamic = [
        (number, parse_criteria(segment["filter_criteria"], reading))
        for number, segment in enumerate(segments)
        if segment["type"] != "static"
    ]
    contacts = SQL("pg_temp.mauntic_jobs_changed" if changed else "crm.contacts")
    found = _Scan(dynamic, width, reading).statements(contacts) if dynamic else []
    if static:
        asked: dict[str, object] = {
            "segments": [segments[number]["id"] for number in static],
            "masks": [mask([number], width) for number in static],
        }
        found.append((SQL(_sql["static_hits"].decode()).format(contacts=contacts).as_bytes(None), asked))
    return found


def mask(numbers: Iterable[int], segments: int) -> str:
    """Return the bits of so many segments, in which those of `numbers` are set."""
    bits = ["0"] * -(-segments // WORD) * WORD
    for number in numbers:
        bits[number] = "1"
    return "".join(bits)


@dataclass
class _AskedCondition:
    """A condition, the segments that need it, and those for which it suffices."""

    condition: Condition
    needed: set[int] = dataclass_field(default_factory=set)
    suffices: set[int] = dataclass_field(default_factory=set)


class _Scan:
    """The scan for dynamic segments, which have numbers below `width`."""

    def __init__(self, segments: Sequence[tuple[int, Criteria]], width: int, reading: SegmentReading) -> None:
        self._width = width
        self._share: Share | None = None
        self._compiler = COMPILERS[reading](self._shared)
        self._fields: dict[str, Field] = {}
        self._asked: dict[str, dict[tuple[str, str], _AskedCondition]] = {}
        # The segments that have every condition fulfilled, or that have none.
        self._all_of = [number for number, each in segments if each.operator == "and" or not each.conditions]
        for number, criteria in segments:
            for condition in criteria.conditions:
                self._ask(number, condition, suffices=criteria.operator == "or")

    def statements(self, contacts: SQL) -> list[Statement]:
        """Return the statements that read a table of contacts, the last of them with hits."""
        columns = self._columns()
        others = self._lateral("others", [name for name in self._fields if name not in columns], None)
        laterals = [self._lateral(f"own_{number}", [name], columns) for number, name in enumerate(columns)]
        parts = {"contacts": contacts, "others": others, "none": self._mask([])}
        if not columns:
            return [self._statement("hits", **parts, hits=self._hits(["others"]))]
        sources = [SQL(", {}").format(self._stored(self._fields[name])) for name in columns]
        own = [f"own_{number}" for number in range(len(columns))]
        return [
            self._statement("values", **parts, columns=_list(columns.values()), sources=SQL("").join(sources)),
            self._statement("analyze_values", columns=SQL(", ").join(columns.values())),
            self._statement(
                "hits_of_values", **parts, laterals=SQL(" ").join(laterals), hits=self._hits(["value", *own])
            ),
        ]

    def _ask(self, number: int, condition: Condition, *, suffices: bool) -> None:
        field = self._compiler.field(condition)
        self._fields.setdefault(field.name, field)
        # By its text, in which 1, 1.0 and true differ.
        key = condition.operator.value, repr(condition.value)
        asked = self._asked.setdefault(field.name, {}).setdefault(key, _AskedCondition(condition))
        (asked.suffices if suffices else asked.needed).add(number)

    def _shared(self, field: Field, form: str, build: Callable[[], Composable]) -> Composable:
        return build() if self._share is None else self._share(field, form, build)

    def _columns(self) -> dict[str, Identifier]:
        """Return the fields whose answers are worth remembering, and the columns of `mauntic_jobs_values` for them."""
        most = sorted(self._asked, key=lambda name: -len(self._asked[name]))[:MAX_REMEMBERED]
        worth = [name for name in most if len(self._asked[name]) >= MIN_CONDITIONS]
        return {
            name: Identifier(name if self._is_typed(name) else f"text_{number}") for number, name in enumerate(worth)
        }

    def _is_typed(self, name: str) -> bool:
        return self._fields[name].kind in (ValueKind.NUMBER, ValueKind.TIME)

    def _stored(self, field: Field) -> Composable:
        return field.stored if self._is_typed(field.name) else SQL("({})::text").format(field.stored)

    def _lateral(self, name: str, fields: Sequence[str], columns: Mapping[str, Identifier] | None) -> Composable:
        """Return the subquery that answers the conditions on some fields.

        Their values are in the columns of a relation `value`, or without those read here.
        """
        stored: dict[str, tuple[Composable, Identifier]] = {}
        forms: dict[tuple[str, str], tuple[Composable, Identifier]] = {}

        def share(field: Field, form: str, build: Callable[[], Composable]) -> Composable:
            if form != STORED:
                return SQL("field.{}").format(_once(forms, (field.name, form), "form", build))
            column = columns[field.name] if columns else _once(stored, field.name, "stored", build)
            return SQL("value.{}").format(column)

        self._share = share
        asked = [each for name in fields for each in self._asked[name].values()]
        conditions = {
            number: (self._compiler.holds(each.condition), Identifier(f"condition_{number}"))
            for number, each in enumerate(asked)
        }
        answers = [SQL("answer.{}").format(column) for _, column in conditions.values()]
        needed = zip(answers, [each.needed for each in asked], strict=True)
        enough = zip(answers, [each.suffices for each in asked], strict=True)
        source = SQL("") if columns else SQL("FROM (SELECT {} OFFSET 0) AS value").format(_selected(stored))
        return SQL(_sql["answers"].decode()).format(
            all_of=SQL("~ {}").format(self._bits(SQL("CASE WHEN {} THEN 0 ELSE {} END"), list(needed))),
            any_of=self._bits(SQL("CASE WHEN {} THEN {} ELSE 0 END"), list(enough)),
            conditions=_selected(conditions),
            forms=_selected(forms),
            source=source,
            name=Identifier(name),
        )

    def _hits(self, relations: Sequence[str]) -> Composable:
        needed = [self._mask(self._all_of), *(SQL("{}.all_of").format(Identifier(each)) for each in relations)]
        enough = [SQL("{}.any_of").format(Identifier(each)) for each in relations]
        return SQL("({}) | {}").format(SQL(" & ").join(needed), SQL(" | ").join(enough))

    def _bits(self, choice: SQL, asked: Sequence[tuple[Composable, set[int]]]) -> Composable:
        """Return the bits of all segments: by numbers of 64 bits, which cost a fifth of strings of bits."""
        words = []
        for first in range(0, self._width, WORD):
            own = [(answer, {number - first for number in numbers} & _OF_WORD) for answer, numbers in asked]
            choices = [choice.format(answer, self._number(numbers)) for answer, numbers in own if numbers]
            words.append(SQL("({})::bit(64)").format(SQL(" | ").join([SQL("0::bigint"), *choices])))
        return SQL("({})").format(SQL(" || ").join(words))

    def _number(self, numbers: set[int]) -> Composable:
        """Return the number of 64 bits with a sign that has these bits, counted from the highest one."""
        value = sum(1 << (WORD - 1 - number) for number in numbers)
        return SQL("{}::bigint").format(self._compiler.bind(str(value - (value >> (WORD - 1) << WORD))))

    def _mask(self, numbers: Iterable[int]) -> Composable:
        return SQL("{}::varbit").format(self._compiler.bind(mask(numbers, self._width)))

    def _statement(self, name: str, **parts: Composable) -> Statement:
        return SQL(_sql[name].decode()).format(**parts).as_bytes(None), self._compiler.parameters


def _once(
    made: dict[_Key, tuple[Composable, Identifier]], key: _Key, name: str, build: Callable[[], Composable]
) -> Identifier:
    """Return the column of a value that is made once."""
    if key not in made:
        made[key] = build(), Identifier(f"{name}_{len(made)}")
    return made[key][1]


def _selected(made: Mapping[Any, tuple[Composable, Identifier]]) -> Composable:
    return SQL(", ").join(SQL("{} AS {}").format(value, column) for value, column in made.values())


def _list(columns: Iterable[Identifier]) -> Composable:
    return SQL("").join(SQL(", {}").format(column) for column in columns)
