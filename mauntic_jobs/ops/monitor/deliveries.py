"""Deliveries of which nobody knows whether they were sent."""

from datetime import datetime, timedelta

from mauntic_jobs.job import Row
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres import Session
from mauntic_jobs.telemetry.alerts.alert import Alert, Cause, Severity

# By then they have been sent again, or the platform has heard of them; unless a human has to decide.
_TOO_LONG = timedelta(minutes=30)

_sql = statements("monitor")


def deliveries_held(session: Session, now: datetime) -> list[Alert]:
    """Return an alert for each channel with deliveries that have been held or ambiguous for more than 30 minutes."""
    return [_alert(row) for row in session.rows(_sql["held"], {"before": now - _TOO_LONG})]


def _alert(row: Row) -> Alert:
    return Alert(
        cause=Cause.DELIVERIES_HELD,
        key=row["channel"],
        severity=Severity.ERROR,
        summary=(
            f"Of {row['deliveries']:,} {row['channel']} deliveries nobody has known for 30 minutes whether "
            f"they were sent; {row['held']:,} wait for a human."
        ),
        action=f"mauntic-jobs deliveries list --state ambiguous --channel {row['channel']}",
        details={"deliveries": row["deliveries"], "held": row["held"], "since": row["since"].isoformat()},
    )
