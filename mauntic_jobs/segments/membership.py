"""The statement that tells whether one contact belongs to a segment, static or dynamic."""

from psycopg.sql import SQL, Composable

from mauntic_jobs.job import Row
from mauntic_jobs.segments.compiler import Compiler
from mauntic_jobs.segments.criteria import parse_criteria
from mauntic_jobs.sql import statements

_sql = statements("segment_triggers")
_membership_sql = statements("segment_membership")


def membership_statement(segment: Row) -> tuple[bytes, dict[str, object]]:
    """Return the statement whose one row says whether a contact `is_member`, and the parameters of the criteria.

    `segment` is a row of crm.segments; the statement's other parameters are `segment`, `organization` and `contact`.
    Raises JobFailedError if the criteria cannot be used.
    """
    compiler = Compiler()
    condition: Composable
    if segment["type"] == "static":
        condition = SQL(_sql["static_members"].decode())
    else:
        condition = compiler.condition(parse_criteria(segment["filter_criteria"]))
    statement = SQL(_membership_sql["is_member"].decode()).format(members=condition)
    return statement.as_bytes(None), compiler.parameters
