"""State of every job by the ledger alone, for a host that runs none of them."""

from mauntic_jobs.alerts.alert import Alert
from mauntic_jobs.alerts.failures import failures
from mauntic_jobs.alerts.withheld import groups_withheld
from mauntic_jobs.installation import Installation
from mauntic_jobs.ops.monitor.conditions.clocks import lines_taking_turns
from mauntic_jobs.ops.monitor.conditions.slots import slots_missed


def check(installation: Installation) -> list[Alert]:
    """Return what is wrong: jobs that are overdue, missed slots, failed at last or withhold groups. Writes nothing."""
    return [
        *slots_missed(installation),
        *lines_taking_turns(installation.session, installation.jobs),
        *failures(installation.session, installation.jobs),
        *groups_withheld(installation.session),
    ]
