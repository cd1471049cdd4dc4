"""The statement that finds the members of a segment, static or dynamic."""

from typing import Any

from psycopg.sql import SQL, Composable

from mauntic_jobs.job import Row
from mauntic_jobs.segments.compiler import Compiler
from mauntic_jobs.segments.criteria import parse_criteria
from mauntic_jobs.sql import statements

_sql = statements("segment_triggers")


def members_statement(segment: Row) -> tuple[bytes, dict[str, Any]]:
    """Return the statement that makes the table of members, and the parameters of the segment's criteria.

    `segment` is a row of crm.segments; the statement's other parameters are `segment` and `organization`. Raises
    JobFailedError if the criteria cannot be used.
    """
    compiler = Compiler()
    condition: Composable
    if segment["type"] == "static":
        condition = SQL(_sql["static_members"].decode())
    else:
        condition = compiler.condition(parse_criteria(segment["filter_criteria"]))
    return SQL(_sql["members"].decode()).format(members=condition).as_bytes(None), compiler.parameters
