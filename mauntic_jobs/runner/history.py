"""Queries of the ledger of runs."""

from datetime import datetime

from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import Row
from mauntic_jobs.runner.request import Status
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits, Session

_sql = statements("runs")


def list_runs(
    session: Session,
    *,
    job: str | None = None,
    status: Status | None = None,
    since: datetime | None = None,
    limit: int = 20,
) -> list[Row]:
    """Return the ledger's rows, latest first, with `seconds` as their duration so far; at most `limit`."""
    filters = {"id": None, "job": job, "status": status.value if status else None, "since": since, "limit": limit}
    with session.transaction(Limits()):
        return session.rows(_sql["list"], filters)


def show_run(session: Session, run_id: int) -> Row:
    """Return one run. Raises UsageError if there is none of that number."""
    filters = {"id": run_id, "job": None, "status": None, "since": None, "limit": 1}
    with session.transaction(Limits()):
        rows = session.rows(_sql["list"], filters)
    if not rows:
        raise UsageError(f"There is no run {run_id}. `mauntic-jobs runs list` shows those there are.")
    return rows[0]
