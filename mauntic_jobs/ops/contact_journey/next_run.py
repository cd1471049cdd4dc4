"""The next run of `segment-trigger-eval` by its schedule."""

from datetime import datetime
from typing import NamedTuple

from mauntic_jobs.installation import Installation
from mauntic_jobs.scheduler.overview import Standing, read_overview
from mauntic_jobs.timekeeping.cron import next_slot


class NextRun(NamedTuple):
    """When the job runs next, aware, in UTC: the present if a slot is due. `pause` says what it waits for, if it does.

    It is the schedule's answer; whether a clock is on is shown by `schedule list`.
    """

    at: datetime
    pause: str | None = None


def read_next_run(installation: Installation) -> NextRun:
    """Return when the installation's one job runs next. Writes nothing."""
    (standing,) = read_overview(installation)
    if standing.pause is not None:
        return NextRun(_after_pause(standing, standing.pause.until, installation.now), standing.pause.sentence)
    return NextRun(installation.now if standing.due else standing.next)


def _after_pause(standing: Standing, until: datetime, now: datetime) -> datetime:
    """Return when the job runs after its pause: at once if a slot strikes meanwhile that is still caught up with."""
    waiting = next_slot(standing.job.cron, max(now, until - standing.job.catch_up.within))
    return max(waiting, until)
