"""A segment trigger as it is evaluated: segment, rules, version of the journey, and a fingerprint of all that."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

from mauntic_jobs import __version__
from mauntic_jobs.errors import JobFailedError
from mauntic_jobs.job import Row, Transaction
from mauntic_jobs.segments.members import compile_segment
from mauntic_jobs.segments.trigger import SegmentTrigger, parse_trigger
from mauntic_jobs.settings.types import SegmentReading
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.values import unreadable
from mauntic_jobs.timekeeping.window import naive

# One statement evaluates no more than this: each condition compares up to three values, and Postgres makes no more than
# 1,664 columns.
_MAX_TRIGGERS, _MAX_CONDITIONS, _MAX_CHARACTERS = 100, 500, 1_000_000

_sql = statements("segment_triggers")


class UnpublishedError(Exception):
    """The journey of a trigger has no published version: there is nothing to enter."""


@dataclass(frozen=True)
class TriggerEvaluation:
    """One trigger, ready to be evaluated. `columns` of contacts decide who is a member.

    `depends_on_time`: members may come without a write.
    """

    trigger: UUID
    organization: UUID
    journey: UUID
    version: UUID
    entry_step: UUID
    config: SegmentTrigger
    segment: Row
    fingerprint: str
    columns: frozenset[str]
    depends_on_time: bool


class TriggerParts(NamedTuple):
    """What triggers name: segments by id, and by journey its newest published version."""

    segments: Mapping[UUID, Row]
    versions: Mapping[UUID, Row]


def read_parts(transaction: Transaction, triggers: Sequence[Row], now: datetime) -> TriggerParts:
    """Return what rows of the statement `triggers` name, at the instant `now`, as far as there is such."""
    named = {found for each in triggers if (found := _named_segment(each)) is not None}
    segments = transaction.rows(_sql["segments"], {"segments": sorted(named)})
    journeys = sorted({each["journey_id"] for each in triggers})
    versions = transaction.rows(_sql["versions"], {"journeys": journeys, "now": naive(now)})
    return TriggerParts({row["id"]: row for row in segments}, {row["journey_id"]: row for row in versions})


def prepare(parts: TriggerParts, trigger: Row, reading: SegmentReading, collation: str) -> TriggerEvaluation:
    """Return what a row of the statement `triggers` asks for.

    Raises UnpublishedError, and JobFailedError if the trigger, its segment or its journey cannot be used.
    """
    _check_readable("the trigger", trigger)
    config = parse_trigger(trigger["config"])
    segment = _segment(parts, trigger, config)
    version = _version(parts, trigger)
    compiled = compile_segment(segment, reading)
    evaluated = (
        *(__version__, reading.value, collation, compiled.condition, sorted(compiled.parameters.items())),
        *(segment["id"], segment["type"]),
        *(trigger["organization_id"], trigger["journey_id"], version["id"], version["entry_step_id"]),
        config.model_dump_json(),
    )
    return TriggerEvaluation(
        trigger=trigger["id"],
        organization=trigger["organization_id"],
        journey=trigger["journey_id"],
        version=version["id"],
        entry_step=version["entry_step_id"],
        config=config,
        segment=segment,
        fingerprint=sha256(repr(evaluated).encode("utf-8", "surrogatepass")).hexdigest(),
        columns=compiled.columns,
        depends_on_time=compiled.depends_on_time,
    )


def in_groups(evaluations: Sequence[TriggerEvaluation]) -> Iterator[list[TriggerEvaluation]]:
    """Yield evaluations of one organization in groups that one statement can find the members of."""
    group: list[TriggerEvaluation] = []
    conditions = characters = 0
    for evaluation in evaluations:
        criteria = None if evaluation.segment["type"] == "static" else evaluation.segment["filter_criteria"]
        own = len((criteria or {}).get("conditions", ()))
        length = len(repr(criteria))
        full = (
            len(group) == _MAX_TRIGGERS or conditions + own > _MAX_CONDITIONS or characters + length > _MAX_CHARACTERS
        )
        if group and full:
            yield group
            group, conditions, characters = [], 0, 0
        group.append(evaluation)
        conditions, characters = conditions + own, characters + length
    if group:
        yield group


def _named_segment(trigger: Row) -> UUID | None:
    try:
        return parse_trigger(trigger["config"]).segment_id
    except JobFailedError:
        return None


def _version(parts: TriggerParts, trigger: Row) -> Row:
    version = parts.versions.get(trigger["journey_id"])
    if version is None:
        raise UnpublishedError("its journey is active, but no version of it is published")
    if version["entry_step_id"] is None:
        problem = "it has no step to begin with"
        if version["has_trigger_step"]:
            problem = "its trigger step leads to no other step"
        raise JobFailedError(f"the published version of the journey cannot be entered: {problem}")
    return version


def _segment(parts: TriggerParts, trigger: Row, config: SegmentTrigger) -> Row:
    segment = parts.segments.get(config.segment_id)
    # A segment of another organization is not told from one that does not exist.
    if segment is None or segment["organization_id"] != trigger["organization_id"]:
        raise JobFailedError(f"its organization has no segment {config.segment_id}")
    if trigger["journey_organization_id"] != trigger["organization_id"]:
        raise JobFailedError("the trigger and its journey belong to different organizations")
    _check_readable("the segment", segment)
    return segment


def _check_readable(what: str, row: Row) -> None:
    problem = unreadable(row)
    if problem is not None:
        raise JobFailedError(f"{what} cannot be read: {problem}")
