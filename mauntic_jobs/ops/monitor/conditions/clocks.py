"""Alert for jobs that more than one clock launches."""

from collections.abc import Sequence

from mauntic_jobs.alerts.alert import Alert, Cause, Severity
from mauntic_jobs.installation import Installation
from mauntic_jobs.job import AnyJob, Row
from mauntic_jobs.scheduler.overview import read_overview
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session

_sql = statements("schedules")


def lines_taking_turns(session: Session, jobs: Sequence[AnyJob]) -> list[Alert]:
    """Return an alert for each job that two clocks schedule by different cron lines."""
    rows = session.rows(_sql["taking_turns"], {"jobs": [job.name for job in jobs]})
    return [_taking_turns(row) for row in rows]


def _taking_turns(row: Row) -> Alert:
    one, other = (
        f"`{row[line]}` ({row[clock] or 'of an earlier version'})"
        for line, clock in (("cron", "set_by"), ("previous_cron", "previous_by"))
    )
    return Alert(
        cause=Cause.SECOND_CLOCK,
        key=row["job"],
        severity=Severity.WARNING,
        summary=(
            f"{row['job']} has two cron lines that take turns: {one} and {other}. The slots of both are run. "
            "Set one line for all clocks in the database, or give them the same settings under `jobs`."
        ),
        action=f"mauntic-jobs schedule set {row['job']} --cron '{row['cron']}'",
        details={"changes": row["returns"]},
    )


def second_clocks(installation: Installation) -> list[Alert]:
    """Return one alert if slots of a job were claimed by several clocks within a day, and none otherwise."""
    several = [each for each in read_overview(installation) if len(each.clocks) > 1]
    if not several:
        return []
    names = [each.job.name for each in several]
    clocks = sorted({clock for each in several for clock in each.clocks})
    return [
        Alert(
            cause=Cause.SECOND_CLOCK,
            key="jobs",
            severity=Severity.INFO,
            summary=f"Slots of {', '.join(names)} were claimed within a day by {' and by '.join(clocks)}.",
            action="mauntic-jobs schedule list",
            details={"jobs": len(names), "clocks": len(clocks)},
        )
    ]
