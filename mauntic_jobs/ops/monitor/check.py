"""Whether every job is well, going by the ledger alone: for a host that runs none of them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from mauntic_jobs.config import Settings
from mauntic_jobs.job import Job
from mauntic_jobs.ops.monitor.clocks import lines_taking_turns
from mauntic_jobs.ops.monitor.slots import slots_missed
from mauntic_jobs.stores.postgres import Session
from mauntic_jobs.telemetry.alerts.alert import Alert
from mauntic_jobs.telemetry.alerts.failures import failures
from mauntic_jobs.telemetry.alerts.withheld import groups_withheld


def check(session: Session, jobs: Sequence[Job[Any]], settings: Settings, now: datetime) -> list[Alert]:
    """Return what is wrong: jobs that are overdue, missed slots, failed at last or withhold groups. Writes nothing."""
    return [
        *slots_missed(session, jobs, settings, now),
        *lines_taking_turns(session, jobs),
        *failures(session, jobs),
        *groups_withheld(session),
    ]
