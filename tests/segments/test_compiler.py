"""Compiled criteria find the same contacts as an evaluator in Python, and nothing in them is ever executed."""

import random
import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from mauntic_jobs.errors import JobFailedError
from mauntic_jobs.job import Row
from mauntic_jobs.segments import compiler as compiler_module
from mauntic_jobs.segments.columns import COLUMNS
from mauntic_jobs.segments.compiler import TIMELESS, Compiler, depends_on_time
from mauntic_jobs.segments.criteria import MAX_CONDITIONS, MAX_ITEMS, Operator, parse_criteria
from mauntic_jobs.segments.judgement import ConditionAnswer, judge
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.settings.types import SegmentReading
from mauntic_jobs.stores.postgres.session import Session, connect, json
from mauntic_jobs.timekeeping.window import naive
from tests.segments.evaluator import matches
from tests.segments.together import members_together
from tests.support import organization, utc

_OPERATORS = [
    "eq", "neq", "gt", "lt", "gte", "lte", "contains", "not_contains", "starts_with", "ends_with", "in", "not_in",
]  # fmt: skip
_TEXTS = [
    "",
    "Ann",
    "ANN",
    "ann lee",
    "100%",
    "1_0",
    "50",
    "007",
    "7",
    "é",
    "Éa",
    "O'Hara",
    "a\\b",
    "\n",
    " ",
    "true",
    "x" * 50,
]
_TIMES = [
    "2026-10-05",
    "2026-10-05T00:00:00",
    "2026-10-05 00:00:00.000001",
    "2026-10-05T02:00+02:00",
    "2026-10-04T23:59:59Z",
]
_ODD_TIMES = [
    "2026-02-30",
    "2026-13-01",
    "2026-10-05T24:00",
    "0000-01-01",
    "10/05/2026",
    "now",
    "infinity",
    "2026-10-05T12",
]
_NUMBERS: list[Any] = [
    0,
    7,
    -7,
    7.5,
    50,
    10**30,
    1e-7,
    "7",
    "7.0",
    "+7",
    "-7",
    "7e1",
    "1e99",
    "NaN",
    "0x10",
    "1_000",
    "٣",
]
_VALUES: list[Any] = [*_TEXTS, *_TIMES, *_ODD_TIMES, *_NUMBERS, True, False]
_CUSTOM = ["plan", "score", "signed", "no such key", "first name", "Status", "FirstName", "a'b", "ключ"]
_FIELDS = [
    *COLUMNS,
    "firstName",
    "lastName",
    "leadScore",
    "leadGrade",
    "lastActivityAt",
    "createdAt",
    "updatedAt",
    *_CUSTOM,
]


_MIDNIGHT = naive(utc("2026-10-05T00:00"))


def _contact(chance: random.Random) -> Row:
    def text(longest: int = 255) -> str | None:
        return chance.choice([None, *[value[:longest] for value in _TEXTS if value]])

    def time() -> datetime:
        return chance.choice([_MIDNIGHT, _MIDNIGHT + timedelta(microseconds=1), _MIDNIGHT - timedelta(seconds=1)])

    custom = {name: chance.choice([None, *_VALUES]) for name in chance.sample(_CUSTOM, 5)}
    return {
        "organization_id": organization(1),
        "email": text(),
        "first_name": text(),
        "last_name": text(),
        "phone": text(50),
        "status": text() or "active",
        "stage": text() or "subscriber",
        "custom_fields": chance.choice([None, {}, custom, custom, custom]),
        "lead_score": chance.choice([None, Decimal("0.00"), Decimal("7.00"), Decimal("7.50"), Decimal("-7.00")]),
        "lead_grade": chance.choice([None, "A", "b"]),
        "last_activity_at": chance.choice([None, time()]),
        "created_at": time(),
        "updated_at": time(),
    }


def _condition(chance: random.Random) -> dict[str, Any]:
    field = chance.choice(_FIELDS)
    operator = chance.choice([*_OPERATORS, "is_set", "is_not_set"])
    value: Any = chance.choice(_VALUES)
    if operator in ("in", "not_in"):
        value = chance.choices(_VALUES, k=chance.randrange(4))
    elif operator in ("contains", "not_contains", "starts_with", "ends_with"):
        value = str(value)
    return {"field": field, "operator": operator, "value": value}


def _add_contact(session: Session, contact: Row) -> Row:
    return session.row(
        b"INSERT INTO crm.contacts (organization_id, email, first_name, last_name, phone, status, stage, custom_fields,"
        b" lead_score, lead_grade, last_activity_at, created_at, updated_at) VALUES (%(organization_id)s, %(email)s,"
        b" %(first_name)s, %(last_name)s, %(phone)s, %(status)s, %(stage)s, %(custom)s, %(lead_score)s, %(lead_grade)s,"
        b" %(last_activity_at)s, %(created_at)s, %(updated_at)s) RETURNING *",
        {**contact, "custom": None if contact["custom_fields"] is None else json(contact["custom_fields"])},
    )


def _members(session: Session, raw: Any) -> set[Any]:
    compiler = Compiler()
    condition = compiler.condition(parse_criteria(raw)).as_bytes(None)
    found = session.rows(b"SELECT contact.id FROM crm.contacts AS contact WHERE " + condition, compiler.parameters)
    return {row["id"] for row in found}


@pytest.fixture
def contacts(direct_settings: Settings) -> Iterator[tuple[Session, list[Row]]]:
    chance = random.Random(1)
    with connect(direct_settings) as session, session.transaction():
        yield session, [_add_contact(session, _contact(chance)) for _ in range(80)]


def test_3000_generated_criteria_find_what_an_evaluator_in_python_finds(
    contacts: tuple[Session, list[Row]],
) -> None:
    session, rows = contacts
    chance = random.Random(2)
    sizes, found = set(), list[tuple[Any, set[Any]]]()
    for _ in range(3000):
        raw = {
            "operator": chance.choice(["and", "or"]),
            "conditions": [_condition(chance) for _ in range(chance.choice([0, 1, 1, 1, 2, 3]))],
        }
        expected = {row["id"] for row in rows if matches(raw, row)}
        assert _members(session, raw) == expected, raw
        sizes.add(len(expected))
        found.append((raw, expected))
    assert len(sizes) > 40  # they do tell contacts apart
    for first in range(0, 3000, 200):
        criteria, members = zip(*found[first : first + 200], strict=True)
        assert members_together(session, criteria, SegmentReading.STRICT) == list(members)


def test_each_of_300_criteria_is_judged_condition_by_condition(contacts: tuple[Session, list[Row]]) -> None:
    session, rows = contacts
    chance, answers = random.Random(3), Counter[ConditionAnswer]()
    for _ in range(300):
        raw = {
            "operator": chance.choice(["and", "or"]),
            "conditions": [_condition(chance) for _ in range(chance.choice([0, 1, 2, 3]))],
        }
        segment = {"id": UUID(int=7), "organization_id": organization(1), "type": "dynamic", "filter_criteria": raw}
        row = chance.choice(rows)
        judgement = judge(session, segment, SegmentReading.STRICT, row["id"])
        assert judgement is not None
        assert judgement.is_member == matches(raw, row), raw
        held = [matches({"conditions": [condition]}, row) for condition in raw["conditions"]]
        assert [each.holds for each in judgement.conditions] == held, raw
        for each in judgement.conditions:
            if each.answer is ConditionAnswer.UNKNOWN:
                assert each.holds == (each.condition.operator in ("neq", "not_in"))
        answers.update(each.answer for each in judgement.conditions)
        assert judge(session, {**segment, "organization_id": organization(2)}, SegmentReading.STRICT, row["id"]) is None
    assert set(answers) == set(ConditionAnswer)


_ATTACKS = [
    "' OR '1'='1", "'; DROP TABLE crm.contacts; --", '"; DROP TABLE crm.contacts; --', "') OR true --",
    "1; SELECT pg_sleep(9)", "%(criteria_0)s", "%s", "%%", "%", "{}", "{0}", "{0.__class__}", "$1", "$$", "$tag$",
    "\\'", "\\", "\\\\'; --", "/* */", "--", "' || pg_read_file('/etc/passwd') || '", "contact.id", "id) OR (1=1",
    "custom_fields ->> 'x'", "E'\\x27'", "U&'\\0027'", "’ OR ’1’=’1", "ʼ; DROP TABLE crm.contacts; --",
    "\u202e' OR 1=1", "a\r\nb", "\x1b[31m", "null", "NULL", "true", "0 OR 1=1", 'first_name" = first_name --',
    "first_name'--", "lower(email)", "(SELECT 1)", "pg_catalog.version()", "*", "x'41'", "B'1'", "1e1000",
    "-1' UNION SELECT id FROM crm.contacts --", "{'a': 1}", "[1]", "}}", "${1}", "`id`", "@@version", "xp_cmdshell",
    "&&", "||", "^(a+)+$", ".*", "[[:alpha:]]", "(?i)x", "~ '.*'", "SIMILAR TO '%'", "LIKE '%'", "_%_", "ESCAPE ''",
    "; COPY t TO PROGRAM 'id'",
]  # fmt: skip


def _attacks() -> list[dict[str, Any]]:
    for_fields = [{"field": attack[:200], "operator": "eq", "value": attack} for attack in _ATTACKS]
    for_values = [
        {"field": field, "operator": operator, "value": [attack] if operator == "in" else attack}
        for attack in _ATTACKS
        for field, operator in (
            ("email", "eq"),
            ("plan", "contains"),
            ("leadScore", "gt"),
            ("createdAt", "lt"),
            ("plan", "in"),
        )
    ]
    return for_fields + for_values


def test_more_than_300_attacks_in_fields_and_values_find_nobody_and_do_nothing(
    contacts: tuple[Session, list[Row]],
) -> None:
    session, rows = contacts
    attacks = _attacks()
    assert len(attacks) > 300
    for condition in attacks:
        raw = {"conditions": [condition]}
        assert _members(session, raw) == {row["id"] for row in rows if matches(raw, row)}, condition
    assert session.row(b"SELECT count(*) AS n FROM crm.contacts")["n"] == len(rows)


def test_an_attack_is_found_as_the_text_it_is(contacts: tuple[Session, list[Row]]) -> None:
    session, _ = contacts
    for attack in _ATTACKS:
        values = {**_contact(random.Random(3)), "first_name": attack, "custom_fields": {attack: attack}}
        contact = _add_contact(session, values)
        for field in ("first_name", attack):
            raw = {"conditions": [{"field": field, "operator": "eq", "value": attack}]}
            assert contact["id"] in _members(session, raw), attack
            assert _members(session, {"conditions": [{**raw["conditions"][0], "value": attack + "."}]}) == set()


@pytest.mark.parametrize("operator", _ATTACKS)
def test_an_attack_as_an_operator_is_refused(operator: str) -> None:
    with pytest.raises(JobFailedError, match="operator"):
        parse_criteria({"conditions": [{"field": "email", "operator": operator, "value": "x"}]})
    with pytest.raises(JobFailedError, match="operator"):
        parse_criteria({"operator": operator})


@pytest.mark.parametrize(
    "raw",
    [
        "text",
        [],
        7,
        {"conditions": {}},
        {"conditions": "x"},
        {"conditions": [7]},
        {"conditions": [{}]},
        {"conditions": [{"field": "", "operator": "is_set"}]},
        {"conditions": [{"field": 7, "operator": "is_set"}]},
        {"conditions": [{"field": "x" * 201, "operator": "is_set"}]},
        {"conditions": [{"field": "a\0b", "operator": "is_set"}]},
        {"conditions": [{"field": "email", "operator": "eq"}]},
        {"conditions": [{"field": "email", "operator": "eq", "value": None}]},
        {"conditions": [{"field": "email", "operator": "eq", "value": ["x"]}]},
        {"conditions": [{"field": "email", "operator": "eq", "value": {"x": 1}}]},
        {"conditions": [{"field": "email", "operator": "eq", "value": "a\0b"}]},
        {"conditions": [{"field": "email", "operator": "eq", "value": "x" * 10_001}]},
        {"conditions": [{"field": "email", "operator": "eq", "value": float("nan")}]},
        {"conditions": [{"field": "email", "operator": "eq", "value": 10**101}]},
        {"conditions": [{"field": "email", "operator": "in", "value": "x"}]},
        {"conditions": [{"field": "email", "operator": "in", "value": [["x"]]}]},
        {"conditions": [{"field": "email", "operator": "contains", "value": 7}]},
    ],
)
def test_criteria_that_cannot_be_meant_are_refused(raw: Any) -> None:
    with pytest.raises(JobFailedError, match="criteria cannot be used"):
        parse_criteria(raw)


def test_as_many_conditions_and_items_as_allowed_are_compiled_and_no_more(direct_settings: Settings) -> None:
    most = [{"field": "email", "operator": "in", "value": ["x"] * MAX_ITEMS}] * MAX_CONDITIONS
    with connect(direct_settings) as session:
        assert _members(session, {"conditions": most}) == set()
    with pytest.raises(JobFailedError):
        parse_criteria({"conditions": [*most, most[0]]})
    with pytest.raises(JobFailedError):
        parse_criteria({"conditions": [{"field": "email", "operator": "in", "value": ["x"] * (MAX_ITEMS + 1)}]})


def test_absent_criteria_mean_every_contact() -> None:
    for raw in (None, {}, {"operator": "or", "conditions": []}):
        assert Compiler().condition(parse_criteria(raw)).as_string(None) == "true"


def test_an_operator_depends_on_time_unless_it_is_known_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = {"conditions": [{"field": "a", "operator": "is_set"}, {"field": "a", "operator": "gt", "value": 1}]}
    assert not depends_on_time(parse_criteria(raw))
    monkeypatch.setattr(compiler_module, "TIMELESS", TIMELESS - {Operator.GT})
    assert depends_on_time(parse_criteria(raw))
    assert not depends_on_time(parse_criteria({"conditions": raw["conditions"][:1]}))


def test_no_condition_asks_for_the_present() -> None:
    """Each function that conditions call gives the same answer to the same contact at all times."""
    values = {Operator.IN: [1, "a", "2026-10-05"], Operator.NOT_IN: [1, "a", "2026-10-05"]}
    conditions = [
        {"field": field, "operator": operator.value, "value": values.get(operator, value)}
        for operator in TIMELESS
        for field in ("email", "leadScore", "createdAt", "plan")
        for value in ("a", "1", "2026-10-05")
    ]
    text = Compiler().condition(parse_criteria({"conditions": conditions})).as_string(None)
    called = set(re.findall(r"([a-z_]+(?:[.][a-z_]+)?) ?[(]", text)) - {"and", "any", "array", "coalesce", "select"}
    assert called == {"lower", "strpos", "starts_with", "reverse", "mauntic_jobs.input_is_valid", "unnest"}
    assert not re.search(r"now|current_|localtime|timestamp[(]|random", text, re.IGNORECASE)
