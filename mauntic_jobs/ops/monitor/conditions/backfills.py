"""Alert for backfills that no process works on, though they are not over."""

from datetime import timedelta

from mauntic_jobs.alerts.alert import Alert, Cause, Severity
from mauntic_jobs.backfill.store import Backfill, list_backfills
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import format_duration
from mauntic_jobs.wording import plural

# Between two windows of a queue, other jobs on it may be run, and a host may be started anew.
_SILENT = timedelta(minutes=10)
# Those of a job never overlap, and few are open at a time.
_MOST = 1_000


def backfills_stuck(session: Session) -> list[Alert]:
    """Return an alert for each backfill that is active and that no process has worked on for ten minutes."""
    found = list_backfills(session, only_open=True, limit=_MOST)
    return [_alert(each) for each in found if each.is_silent_for(_SILENT)]


def _alert(backfill: Backfill) -> Alert:
    silent = format_duration(timedelta(minutes=backfill.silent // timedelta(minutes=1)))
    left = plural(backfill.left, "window")
    return Alert(
        cause=Cause.BACKFILL_STUCK,
        key=str(backfill.id),
        severity=Severity.WARNING,
        summary=(
            f"Backfill {backfill.id} of {backfill.job} {backfill.window} is not over, {left} of {backfill.to_run:,} "
            f"left, and no process has worked on it for {silent}."
        ),
        action=f"mauntic-jobs backfill resume {backfill.id}",
        details={"left": backfill.left, "windows": backfill.to_run, "host": backfill.host},
    )
