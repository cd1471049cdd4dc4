"""The statements that find the members of segments, static or dynamic."""

from typing import NamedTuple

from psycopg.sql import SQL, Composable

from mauntic_jobs.errors import JobFailedError
from mauntic_jobs.job import Row
from mauntic_jobs.segments.columns import column_of
from mauntic_jobs.segments.compiler import Compiler, depends_on_time
from mauntic_jobs.segments.criteria import Criteria, parse_criteria
from mauntic_jobs.segments.platform_compiler import PlatformCompiler
from mauntic_jobs.settings.types import SegmentReading
from mauntic_jobs.sql import statements

COMPILERS = {SegmentReading.STRICT: Compiler, SegmentReading.PLATFORM: PlatformCompiler}

_sql = statements("segment_triggers")


def members_statement(segment: Row, reading: SegmentReading) -> tuple[bytes, dict[str, object]]:
    """Return the statement that lists the members of one segment, and the parameters of its criteria.

    `segment` is a row of crm.segments; the statement's other parameters are `segment` and `organization`. Raises
    JobFailedError if the criteria cannot be used.
    """
    condition, parameters = _condition(segment, reading)
    return SQL(_sql["members_of_one"].decode()).format(members=condition).as_bytes(None), parameters


class CompiledSegment(NamedTuple):
    """A segment's condition with its parameters, and the columns of `crm.contacts` that it reads.

    `depends_on_time`: the passing of time alone can change its answer.
    """

    condition: bytes
    parameters: dict[str, object]
    columns: frozenset[str]
    depends_on_time: bool


def compile_segment(segment: Row, reading: SegmentReading) -> CompiledSegment:
    """Return a segment as it is evaluated. Raises JobFailedError if the criteria cannot be used."""
    condition, parameters = _condition(segment, reading)
    criteria = Criteria() if segment["type"] == "static" else parse_criteria(segment["filter_criteria"], reading)
    columns = frozenset(column_of(each.field) for each in criteria.conditions)
    return CompiledSegment(condition.as_bytes(None), parameters, columns, depends_on_time(criteria))


def readings_statement(segment: Row) -> tuple[bytes, dict[str, object]] | None:
    """Return the statement that counts the contacts which only one reading of the criteria makes members.

    None if both readings are the same for whatever contacts there are. Raises JobFailedError if the criteria cannot be
    used by one of them.
    """
    strict, parameters = _condition(segment, SegmentReading.STRICT)
    platform, own = _condition(segment, SegmentReading.PLATFORM)
    if (strict.as_bytes(None), parameters) == (platform.as_bytes(None), own):
        return None
    # Both number their parameters alike.
    renamed = platform.as_string(None).replace("%(criteria_", "%(platform_criteria_")
    parameters |= {name.replace("criteria_", "platform_criteria_"): value for name, value in own.items()}
    statement = SQL(_sql["readings"].decode()).format(strict=strict, platform=SQL(renamed))
    return statement.as_bytes(None), parameters


def readings_agree(segment: Row) -> bool:
    """Return whether both readings of the criteria are the same, for whatever contacts there are."""
    try:
        return readings_statement(segment) is None
    except JobFailedError:
        return False


def _condition(segment: Row, reading: SegmentReading) -> tuple[Composable, dict[str, object]]:
    if segment["type"] == "static":
        return SQL(_sql["static_members"].decode()), {}
    compiler = COMPILERS[reading]()
    condition = compiler.condition(parse_criteria(segment["filter_criteria"], reading))
    return condition, compiler.parameters
