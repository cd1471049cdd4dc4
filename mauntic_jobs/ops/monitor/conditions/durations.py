"""Runs that take far longer than the job's runs usually do."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from mauntic_jobs.alerts.alert import Alert, Cause, Severity
from mauntic_jobs.job import AnyJob, Row
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import format_duration

_HISTORY = 20
_MIN_RUNS = 5
_TIMES, _MORE_SECONDS = 3, 600

_sql = statements("run_alerts")


def runs_too_long(session: Session, jobs: Sequence[AnyJob], now: datetime) -> list[Alert]:
    """Return an alert for each run under way that takes three times as long as nearly all others, and minutes more."""
    asked = {"jobs": [job.name for job in jobs], "now": now, "history": _HISTORY}
    return [_alert(row) for row in session.rows(_sql["long"], asked) if _is_long(row)]


def _is_long(row: Row) -> bool:
    if row["runs"] < _MIN_RUNS:
        return False
    return bool(row["seconds"] > max(_TIMES * row["p95"], row["p95"] + _MORE_SECONDS))


def _alert(row: Row) -> Alert:
    so_far, usual = (format_duration(timedelta(seconds=round(row[name]))) for name in ("seconds", "p95"))
    return Alert(
        cause=Cause.RUN_TOO_LONG,
        key=row["job"],
        severity=Severity.WARNING,
        summary=f"{row['job']} has been running for {so_far}, and nearly always takes less than {usual}.",
        action=f"mauntic-jobs runs show {row['id']}",
        details={"run": row["id"], "host": row["host"], "pid": row["pid"], "seconds": round(row["seconds"])},
    )
