"""Jobs whose latest run failed, or was lost."""

from collections.abc import Sequence

from mauntic_jobs.alerts.alert import Alert, Cause, Severity
from mauntic_jobs.job import AnyJob, Row
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import Window

_sql = statements("run_alerts")


def failures(session: Session, jobs: Sequence[AnyJob]) -> list[Alert]:
    """Return an alert for each job whose latest run of a slot failed, and was not made up for."""
    critical = {job.name: job.critical for job in jobs}
    rows = session.rows(_sql["failed"], {"jobs": list(critical)})
    return [_alert(row, critical=critical[row["job"]]) for row in rows]


def _alert(row: Row, *, critical: bool) -> Alert:
    how = "failed" if row["status"] == "failed" else "was killed, or lost its host"
    tried = f" after {row['attempt']} attempts" if row["attempt"] > 1 else ""
    return Alert(
        cause=Cause.JOB_FAILED,
        key=row["job"],
        severity=Severity.CRITICAL if critical else Severity.WARNING,
        summary=f"{row['job']} {Window(row['window_start'], row['window_end'])} {how}{tried}: {row['error']}",
        action=f"mauntic-jobs runs show {row['id']}",
        details={"run": row["id"], "host": row["host"], "window_end": row["window_end"].isoformat()},
    )
