"""Watch of the ledger at each look of a clock: one query, and what it leads to where something is wrong."""

from datetime import timedelta

from mauntic_jobs.alerts.notify import Notified
from mauntic_jobs.errors import ClockSkewError
from mauntic_jobs.installation import Installation
from mauntic_jobs.ops.monitor.conditions.upkeep import MIN_FAILURES, TASK_NAMES
from mauntic_jobs.sql import statements

# Further back a failure has raised its alert already.
_RECENT = timedelta(hours=25)

_sql = statements("run_alerts")


def watch_ledger(installation: Installation, skew: ClockSkewError | None = None) -> Notified:
    """Tell of jobs that failed, are overdue or take too long, and of tasks that fail beside them.

    It also tells of a Redis that lost data as far as Postgres knows.

    `skew` says that this host's clock is wrong; `now` is the database's time. Where nothing is wrong, it takes one
    query.
    """
    names, since = [job.name for job in installation.jobs], installation.now - _RECENT
    asked = {"jobs": names, "since": since, "failures": MIN_FAILURES, "tasks": TASK_NAMES}
    if skew is None and not installation.session.row(_sql["trouble"], asked)["found"]:
        return Notified()
    # A clock looks each minute, and mostly finds nothing: the conditions take a twentieth of its start.
    from mauntic_jobs.ops.monitor.watch import tell_of_ledger

    return tell_of_ledger(installation, skew)
