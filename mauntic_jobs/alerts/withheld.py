"""Alerts for groups of rollups that a guard withholds, until a run of their day or month writes them."""

from mauntic_jobs.alerts.alert import Alert, Cause, Severity
from mauntic_jobs.job import Row
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.wording import plural

_REASONS = {
    "shrinks": "recorded values would fall",
    "too long": "event types are too long",
    "too large": "counts are too large",
}
_MONTH_LENGTH = len("2026-10")

_sql = statements("run_alerts")


def groups_withheld(session: Session) -> list[Alert]:
    """Return an alert for each job of which groups are withheld, whichever windows have succeeded since."""
    return [_alert(row) for row in session.rows(_sql["withheld"])]


def _alert(row: Row) -> Alert:
    groups = plural(row["groups"], "group")
    whose = plural(row["organizations"], "organization")
    when = row["oldest"] if row["oldest"] == row["newest"] else f"{row['oldest']} to {row['newest']}"
    why = " and ".join(_REASONS[reason] for reason in row["reasons"])
    option = "--month" if len(row["oldest"]) == _MONTH_LENGTH else "--date"
    return Alert(
        cause=Cause.GROUPS_WITHHELD,
        key=row["job"],
        severity=Severity.ERROR,
        summary=(
            f"{row['job']} withholds {groups} of {whose} ({when}) because {why}: {row['old_total']:,} events are "
            f"recorded, {row['new_total']:,} were found. All other groups were written."
        ),
        action=f"mauntic-jobs {row['job']} {option} {row['oldest']} --dry-run --compare",
        details={"groups": row["groups"], "organizations": row["organizations"], "since": row["since"].isoformat()},
    )
