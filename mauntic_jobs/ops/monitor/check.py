"""State of every job by the ledger alone, for a host that runs none of them."""

from collections.abc import Sequence
from datetime import datetime

from mauntic_jobs.alerts.alert import Alert
from mauntic_jobs.alerts.failures import failures
from mauntic_jobs.alerts.withheld import groups_withheld
from mauntic_jobs.job import AnyJob
from mauntic_jobs.ops.monitor.conditions.clocks import lines_taking_turns
from mauntic_jobs.ops.monitor.conditions.slots import slots_missed
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session


def check(session: Session, jobs: Sequence[AnyJob], settings: Settings, now: datetime) -> list[Alert]:
    """Return what is wrong: jobs that are overdue, missed slots, failed at last or withhold groups. Writes nothing."""
    return [
        *slots_missed(session, jobs, settings, now),
        *lines_taking_turns(session, jobs),
        *failures(session, jobs),
        *groups_withheld(session),
    ]
