"""Members of several segments, found in one scan."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from mauntic_jobs.segments import entries
from mauntic_jobs.segments.hits import hits_statements
from mauntic_jobs.settings.types import SegmentReading
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session
from tests.support import organization


def members_together(session: Session, criteria: Sequence[Any], reading: SegmentReading) -> list[set[UUID]]:
    """Return the members of dynamic segments with these criteria, each as it is among all of them.

    The session is in a transaction; the contacts are those of organization 1.
    """
    if session.row(b"SELECT to_regclass('pg_temp.mauntic_jobs_hits') IS NULL AS missing")["missing"]:
        entries.make_tables(session)
    session.execute(statements("segment_triggers")["empty"])
    segments = [{"type": "dynamic", "filter_criteria": raw} for raw in criteria]
    for statement, parameters in hits_statements(segments, reading, changed=False):
        session.execute(statement, parameters | {"organization": organization(1)})
    found: list[set[UUID]] = [set() for _ in criteria]
    for row in session.rows(b"SELECT id, hits::text FROM pg_temp.mauntic_jobs_hits"):
        for number, bit in enumerate(row["hits"]):
            if bit == "1":
                found[number].add(row["id"])
    return found
