"""The platform's reading of criteria finds what SQL of the platform's form finds."""

import random
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from mauntic_jobs.job import Row
from mauntic_jobs.segments.compiler import Compiler
from mauntic_jobs.segments.criteria import parse_criteria
from mauntic_jobs.segments.judgement import ConditionAnswer, judge
from mauntic_jobs.segments.platform_compiler import PlatformCompiler, written
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.settings.types import SegmentReading
from mauntic_jobs.stores.postgres.session import Session, connect, json
from mauntic_jobs.timekeeping.window import naive
from tests.segments.platform_sql import platform_sql
from tests.segments.together import members_together
from tests.support import organization, utc

_TEXTS = ["", "Ann", "ANN", "ann", "ann lee", "100%", "1_0", "10", "9", "007", "7", "é", "É", "O'Hara", "a\\b", "true"]
_NUMBERS = [0, 7, -7, 7.5, 9, 10, 100]
_TIMES = ["2026-10-05", "2026-10-04T23:59:59", "2026-10-05T00:00:00.000001"]
_CUSTOM = ["plan", "score", "no such key", "a'b", "ключ"]
_FIELDS: dict[str, list[Any]] = {
    "firstName": _TEXTS, "last_name": _TEXTS, "email": _TEXTS, "leadGrade": ["A", "a", "b"],
    "leadScore": _NUMBERS, "lastActivityAt": _TIMES, "createdAt": _TIMES,
    **{name: [*_TEXTS, *_NUMBERS, *_TIMES, True, False] for name in _CUSTOM},
}  # fmt: skip
_OPERATORS = [
    "eq", "neq", "gt", "lt", "gte", "lte", "in", "not_in", "contains", "not_contains", "starts_with", "ends_with",
    "is_set", "is_not_set", "matches", "between",
]  # fmt: skip
_MIDNIGHT = naive(utc("2026-10-05"))


def _condition(chance: random.Random) -> dict[str, Any]:
    field, operator = chance.choice(list(_FIELDS)), chance.choice(_OPERATORS)
    value: Any = chance.choice(_FIELDS[field])
    if operator in ("in", "not_in"):
        value = chance.choices(_FIELDS[field], k=chance.randrange(4))
    elif operator.endswith(("_with", "contains")):
        value = str(value)
    return {"field": field, "operator": operator, "value": value}


def _contact(chance: random.Random) -> Row:
    custom = {name: chance.choice([None, *_TEXTS, *_NUMBERS, *_TIMES, True]) for name in chance.sample(_CUSTOM, 3)}
    return {
        "organization_id": organization(1),
        "first_name": chance.choice([None, *_TEXTS]),
        "last_name": chance.choice([None, *_TEXTS]),
        "email": chance.choice([None, *_TEXTS]),
        "lead_grade": chance.choice([None, "A", "b"]),
        "lead_score": chance.choice([None, *(Decimal(str(number)) for number in _NUMBERS)]),
        "last_activity_at": chance.choice([None, _MIDNIGHT, _MIDNIGHT + timedelta(microseconds=1)]),
        "created_at": chance.choice([_MIDNIGHT, _MIDNIGHT - timedelta(seconds=1)]),
        "custom_fields": chance.choice([None, json({}), json(custom), json(custom), json(custom)]),
    }


@pytest.fixture
def session(direct_settings: Settings) -> Iterator[Session]:
    with connect(direct_settings) as opened, opened.transaction():
        yield opened


def _add(session: Session, contact: Row) -> None:
    places = ", ".join(f"%({name})s" for name in contact)
    session.execute(f"INSERT INTO crm.contacts ({', '.join(contact)}) VALUES ({places})".encode(), contact)


def _members(session: Session, raw: Any, reading: SegmentReading) -> set[Any]:
    compiler = PlatformCompiler() if reading is SegmentReading.PLATFORM else Compiler()
    condition = compiler.condition(parse_criteria(raw, reading)).as_bytes(None)
    found = session.rows(b"SELECT contact.id FROM crm.contacts AS contact WHERE " + condition, compiler.parameters)
    return {row["id"] for row in found}


def test_400_generated_criteria_find_what_sql_of_the_platforms_form_finds(session: Session) -> None:
    chance = random.Random(7)
    for _ in range(80):
        _add(session, _contact(chance))
    sizes, differ, all_found = set(), 0, list[tuple[Any, set[Any]]]()
    for _ in range(400):
        raw: dict[str, Any] = {
            "operator": chance.choice(["and", "or"]),
            "conditions": [_condition(chance) for _ in range(chance.choice([0, 1, 1, 1, 2, 3]))],
        }
        rows = session.rows(f"SELECT id FROM crm.contacts WHERE {platform_sql(raw)}".encode())
        found = _members(session, raw, SegmentReading.PLATFORM)
        assert found == {row["id"] for row in rows}, (raw, platform_sql(raw))
        sizes.add(len(found))
        all_found.append((raw, found))
        known = [each for each in raw["conditions"] if each["operator"] not in ("matches", "between")]
        differ += found != _members(session, {**raw, "conditions": known}, SegmentReading.STRICT)
    assert len(sizes) > 30  # they do tell contacts apart
    assert differ > 80  # and so do the readings
    criteria, members = zip(*all_found, strict=True)
    assert members_together(session, criteria, SegmentReading.PLATFORM) == list(members)


def test_each_of_200_criteria_is_judged_condition_by_condition(session: Session) -> None:
    chance = random.Random(8)
    for _ in range(80):
        _add(session, _contact(chance))
    contacts, answers = session.rows(b"SELECT id FROM crm.contacts"), Counter[ConditionAnswer]()
    for _ in range(200):
        raw: dict[str, Any] = {"conditions": [_condition(chance) for _ in range(chance.choice([1, 2, 3]))]}
        segment = {"id": UUID(int=7), "organization_id": organization(1), "type": "dynamic", "filter_criteria": raw}
        contact = chance.choice(contacts)["id"]
        judgement = judge(session, segment, SegmentReading.PLATFORM, contact)
        assert judgement is not None
        assert judgement.is_member == (contact in _members(session, raw, SegmentReading.PLATFORM))
        for each in judgement.conditions:
            alone = {"conditions": [each.condition.model_dump(mode="json")]}
            rows = session.rows(f"SELECT id FROM crm.contacts WHERE {platform_sql(alone)}".encode())
            assert each.holds == (contact in {row["id"] for row in rows}), alone
            # An absent value is never a member.
            assert (each.answer is ConditionAnswer.UNKNOWN) <= (not each.holds)
        answers.update(each.answer for each in judgement.conditions)
    assert set(answers) == set(ConditionAnswer)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"), (7.0, "7"), (-7.5, "-7.5"), (0.1, "0.1"), (100, "100"), (1e20, "1" + "0" * 20), (10**21, "1e+21"),
        (1.5e300, "1.5e+300"), (1e-6, "0.000001"), (1e-7, "1e-7"), (-2.5e-9, "-2.5e-9"),
        (2**53 + 1, "9007199254740992"),
        (0, "0"), (-0.0, "0"), (True, "true"), (False, "false"), ("x", "x"),
    ],
)  # fmt: skip
def test_values_are_written_as_javascript_writes_them(value: Any, text: str) -> None:
    assert written(value) == text
