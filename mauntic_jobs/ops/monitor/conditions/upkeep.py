"""Alert for tasks of the clock, such as the monitor itself, that fail again and again."""

from datetime import timedelta

from mauntic_jobs.alerts.alert import Alert, Cause, Severity
from mauntic_jobs.job import Row
from mauntic_jobs.scheduler.upkeep import TASKS
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session

# A single failure may be that of a database that was away for a moment.
MIN_FAILURES = 3
# Rows of tasks that another version has, or had, say nothing of this one.
TASK_NAMES = [task.name for task in TASKS]
# A task that no clock has started for longer was turned off: the one that runs least often runs each day.
_STARTED_WITHIN = timedelta(days=2)

_sql = statements("upkeep")


def upkeep_failing(session: Session) -> list[Alert]:
    """Return an alert for each task of upkeep whose latest three runs, or more, have all failed."""
    rows = session.rows(_sql["failing"], {"tasks": TASK_NAMES, "failures": MIN_FAILURES, "within": _STARTED_WITHIN})
    return [_alert(row) for row in rows]


def _alert(row: Row) -> Alert:
    command = next((task.command.removesuffix(" --quiet") for task in TASKS if task.name == row["task"]), "doctor")
    return Alert(
        cause=Cause.UPKEEP_FAILING,
        key=row["task"],
        severity=Severity.ERROR,
        summary=f"{row['task']} has failed {row['failures']} times in a row, by {row['claimed_by']}: {row['error']}",
        action=f"mauntic-jobs {command}",
        details={"failures": row["failures"]},
    )
