"""Judgement of one contact by the criteria of a segment, condition by condition."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from psycopg.sql import SQL, Composable, Identifier

from mauntic_jobs.job import Row, Transaction
from mauntic_jobs.segments.compiler import ConditionParts
from mauntic_jobs.segments.criteria import Condition, parse_criteria
from mauntic_jobs.segments.members import COMPILERS
from mauntic_jobs.settings.types import SegmentReading
from mauntic_jobs.sql import statements

# Contacts' values may be of any length, and are shown.
_MAX_CHARACTERS = 1_000

_sql = statements("segment_membership")
_triggers_sql = statements("segment_triggers")


class ConditionAnswer(StrEnum):
    """What a condition says of a contact; `unknown` where it has no value, or one that cannot be compared."""

    TRUE = "true"
    FALSE = "false"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class JudgedCondition:
    """One condition, with the value of the contact as text, None where it has none.

    `column` is the one of `crm.contacts` that is compared, None for a key of `custom_fields`. `holds` is what the
    answer counts as: an unknown one is yes for `neq` and `not_in` of the strict reading, and no otherwise.
    """

    condition: Condition
    column: str | None
    contact_value: str | None
    answer: ConditionAnswer
    holds: bool


@dataclass(frozen=True)
class Judgement:
    """Whether a contact is a member, and why. `joint` says how many conditions must hold: `and` is all, `or` is any.

    A static segment has neither conditions nor a `joint`.
    """

    is_member: bool
    joint: str | None
    conditions: Sequence[JudgedCondition]


def judge(transaction: Transaction, segment: Row, reading: SegmentReading, contact: UUID) -> Judgement | None:
    """Judge a contact by a row of crm.segments; None if the segment's organization does not have the contact.

    Raises JobFailedError if the criteria cannot be used.
    """
    asked = {"segment": segment["id"], "organization": segment["organization_id"], "contact": contact}
    if segment["type"] == "static":
        members: Composable = SQL(_triggers_sql["static_members"].decode())
        rows = transaction.rows(_statement(members, []), asked)
        return Judgement(rows[0]["is_member"], None, []) if rows else None
    criteria, compiler = parse_criteria(segment["filter_criteria"], reading), COMPILERS[reading]()
    parts = [compiler.parts(each) for each in criteria.conditions]
    statement = _statement(compiler.condition(criteria), parts)
    rows = transaction.rows(statement, asked | compiler.parameters)
    if not rows:
        return None
    judged = [
        _judged(*each, rows[0], number) for number, each in enumerate(zip(criteria.conditions, parts, strict=True))
    ]
    return Judgement(rows[0]["is_member"], criteria.operator, judged)


def _statement(members: Composable, parts: Sequence[ConditionParts]) -> bytes:
    columns = SQL("").join(
        SQL(", left({}, {}) AS {}, {} AS {}, {} AS {}").format(
            *(each.value, _MAX_CHARACTERS, Identifier(f"value_{number}")),
            *(each.compared, Identifier(f"compared_{number}")),
            *(each.holds, Identifier(f"holds_{number}")),
        )
        for number, each in enumerate(parts)
    )
    return SQL(_sql["judged"].decode()).format(members=members, parts=columns).as_bytes(None)


def _judged(condition: Condition, parts: ConditionParts, row: Row, number: int) -> JudgedCondition:
    holds = row[f"holds_{number}"]
    known = ConditionAnswer.TRUE if holds else ConditionAnswer.FALSE
    answer = known if row[f"compared_{number}"] else ConditionAnswer.UNKNOWN
    return JudgedCondition(condition, parts.column, row[f"value_{number}"], answer, holds)
