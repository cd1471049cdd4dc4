"""Rounds of the monitor: every condition is checked, and its alerts are raised or closed."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from mauntic_jobs.alerts.alert import Alert, Cause
from mauntic_jobs.alerts.clock_skew import clock_skew, host_key
from mauntic_jobs.alerts.failures import failures
from mauntic_jobs.alerts.ledger import open_alerts
from mauntic_jobs.alerts.notify import Notified, record, send_due
from mauntic_jobs.alerts.withheld import groups_withheld
from mauntic_jobs.errors import ClockSkewError, MaunticJobsError
from mauntic_jobs.installation import Installation
from mauntic_jobs.ops.monitor.conditions.backfills import backfills_stuck
from mauntic_jobs.ops.monitor.conditions.clocks import lines_taking_turns, second_clocks
from mauntic_jobs.ops.monitor.conditions.consumers import consumers_stuck
from mauntic_jobs.ops.monitor.conditions.deliveries import deliveries_deferred, deliveries_expired, deliveries_held
from mauntic_jobs.ops.monitor.conditions.durations import runs_too_long
from mauntic_jobs.ops.monitor.conditions.failovers import providers_failed_over
from mauntic_jobs.ops.monitor.conditions.receivers import receivers_deferring
from mauntic_jobs.ops.monitor.conditions.recipients import recipients_refused
from mauntic_jobs.ops.monitor.conditions.redis_loss import noticed_losses, redis_losses
from mauntic_jobs.ops.monitor.conditions.reputation import reputations
from mauntic_jobs.ops.monitor.conditions.slots import slots_missed
from mauntic_jobs.ops.monitor.conditions.upkeep import MIN_FAILURES, upkeep_failing
from mauntic_jobs.recovery.marker import open_loss
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session

# Further back a failure has raised its alert already.
_RECENT = timedelta(hours=25)

_sql = statements("run_alerts")


class Watched(NamedTuple):
    """What was found, and what was told."""

    found: list[Alert]
    notified: Notified


def watch_ledger(installation: Installation, skew: ClockSkewError | None = None) -> Notified:
    """Tell of jobs that failed, are overdue or take too long, and of tasks that fail beside them.

    It also tells of a Redis that lost data as far as Postgres knows.

    `skew` says that this host's clock is wrong; `now` is the database's time. Where nothing is wrong, it takes one
    query.
    """
    session, settings, now = installation.session, installation.settings, installation.now
    names = [job.name for job in installation.jobs]
    asked = {"jobs": names, "since": now - _RECENT, "failures": MIN_FAILURES}
    if skew is None and not session.row(_sql["trouble"], asked)["found"]:
        return Notified()
    record_skew(session, settings, now, skew)
    looks = _of_jobs(installation)
    record(session, [alert for look in looks.values() for alert in look()], now, causes=list(looks), keys=names)
    record(session, upkeep_failing(session), now, causes=[Cause.UPKEEP_FAILING])
    record(session, noticed_losses(session, settings), now, causes=[Cause.REDIS_LOST])
    return send_due(session, settings, now)


def record_skew(session: Session, settings: Settings, now: datetime, skew: ClockSkewError | None) -> list[Alert]:
    """Write down that this host's clock is wrong, or that it is right again; return the alert, if there is one."""
    found = [] if skew is None else [clock_skew(skew, settings)]
    record(session, found, now, causes=[Cause.CLOCK_SKEW], keys=[host_key(settings)])
    return found


def watch_all(installation: Installation, log: Callable[[str], None], skew: ClockSkewError | None = None) -> Watched:
    """Look at everything, and tell of what was found and of what is over.

    `skew` says that this host's clock is wrong; `now` is the database's time. Where one look fails, `log` gets to
    know, and what was known of it stays. Raises UnavailableError if it is Postgres that cannot be asked.
    """
    session, settings, now = installation.session, installation.settings, installation.now
    found = record_skew(session, settings, now, skew)
    for cause, look in _looks(installation).items():
        try:
            alerts = look()
        except Exception as error:
            if session.broken:
                raise
            kind = "" if isinstance(error, MaunticJobsError) else f"{type(error).__name__}: "
            log(f"monitor: cannot tell of {cause}: {kind}{error}")
        else:
            found += alerts
            if cause in _OF_REDIS and open_loss(session, settings):
                # An empty Redis shows nothing that is wrong: it ends no alert.
                open_alerts(session, alerts, now)
                continue
            keys = [job.name for job in installation.jobs] if cause in _OF_JOBS else None
            record(session, alerts, now, causes=[cause], keys=keys)
    return Watched(found, send_due(session, settings, now))


def _looks(installation: Installation) -> dict[Cause, Callable[[], list[Alert]]]:
    session, now = installation.session, installation.now
    looks: dict[Cause, Callable[[], list[Alert]]] = {
        **_of_jobs(installation),
        Cause.UPKEEP_FAILING: lambda: upkeep_failing(session),
        Cause.BACKFILL_STUCK: lambda: backfills_stuck(session),
        Cause.SECOND_CLOCK: lambda: second_clocks(installation) + lines_taking_turns(session, installation.jobs),
        Cause.DELIVERIES_HELD: lambda: deliveries_held(session, now),
        Cause.DELIVERIES_DEFERRED: lambda: deliveries_deferred(session, now),
        Cause.RECIPIENTS_REFUSED: lambda: recipients_refused(session, now),
        Cause.RECEIVERS_DEFERRING: lambda: receivers_deferring(session, now),
        Cause.PROVIDER_FAILED_OVER: lambda: providers_failed_over(session, now),
        Cause.REPUTATION: lambda: reputations(session, installation.settings, now),
        Cause.DELIVERIES_EXPIRED: lambda: deliveries_expired(session, now),
    }
    if installation.settings.redis_url is not None:
        looks[Cause.REDIS_LOST] = lambda: redis_losses(installation)
        looks[Cause.CONSUMER_STUCK] = lambda: consumers_stuck(installation)
    return looks


_OF_JOBS = (Cause.JOB_FAILED, Cause.SLOT_MISSED, Cause.RUN_TOO_LONG)
_OF_REDIS = (Cause.CONSUMER_STUCK,)


def _of_jobs(installation: Installation) -> dict[Cause, Callable[[], list[Alert]]]:
    session, jobs = installation.session, installation.jobs
    return {
        Cause.JOB_FAILED: lambda: failures(session, jobs),
        Cause.GROUPS_WITHHELD: lambda: groups_withheld(session),
        Cause.SLOT_MISSED: lambda: slots_missed(installation),
        Cause.RUN_TOO_LONG: lambda: runs_too_long(session, jobs, installation.now),
    }
