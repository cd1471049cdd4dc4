"""Results of which Postgres took the ledger's row and refused the rest: events, counts, suppressions."""

import json
from collections.abc import Iterator
from uuid import UUID

from mauntic_jobs.delivery.ledger.ledger import RESEND_AFTER
from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.job import Row
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session

_PAGE = 500

_sql = statements("deliveries")


def record_refused(session: Session, *, record_activity: bool) -> tuple[int, int]:
    """Record what is still owed of such results; return how many were recorded, and how many are refused again."""
    recorded = refused = 0
    for row in _unrecorded(session):
        result = {**row["unrecorded"], "n": 0, "fence": row["fence"], "again": True}
        parameters = {"results": json.dumps([result]), "resend_after": RESEND_AFTER, "record_activity": record_activity}
        try:
            session.rows(_sql["record"], parameters)
        except MaunticJobsError as error:
            if error.transient:
                raise
            refused += 1
        else:
            recorded += 1
    return recorded, refused


def _unrecorded(session: Session) -> Iterator[Row]:
    after: dict[str, object] = {"organization": UUID(int=0), "delivery": ""}
    while page := session.rows(_sql["unrecorded"], {**after, "page": _PAGE}):
        yield from page
        after = {"organization": page[-1]["organization_id"], "delivery": page[-1]["delivery_id"]}
