"""Members of several segments, found in one scan."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from mauntic_jobs.segments.members import members_statements
from mauntic_jobs.settings.types import SegmentReading
from mauntic_jobs.stores.postgres.session import Session
from tests.support import organization


def members_together(session: Session, criteria: Sequence[Any], reading: SegmentReading) -> list[set[UUID]]:
    """Return the members of dynamic segments with these criteria, each as it is among all of them.

    The session is in a transaction; the contacts are those of organization 1.
    """
    segments = [(number, {"type": "dynamic", "filter_criteria": raw}) for number, raw in enumerate(criteria)]
    session.execute(b"CREATE TEMPORARY TABLE IF NOT EXISTS mauntic_jobs_members (number int, id uuid)")
    for statement, parameters in members_statements(segments, reading, changed=False):
        session.execute(statement, parameters | {"organization": organization(1)})
    found: list[set[UUID]] = [set() for _ in criteria]
    for row in session.rows(b"SELECT number, id FROM pg_temp.mauntic_jobs_members"):
        found[row["number"]].add(row["id"])
    session.execute(b"TRUNCATE pg_temp.mauntic_jobs_members")
    return found
