"""Rounds of the monitor: every condition is checked, and its alerts are raised or closed."""

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import NamedTuple

from mauntic_jobs.alerts.alert import Alert, Cause
from mauntic_jobs.alerts.clock_skew import clock_skew, host_key
from mauntic_jobs.alerts.failures import failures
from mauntic_jobs.alerts.ledger import open_alerts
from mauntic_jobs.alerts.notify import Notified, record, send_due
from mauntic_jobs.alerts.withheld import groups_withheld
from mauntic_jobs.errors import ClockSkewError, ExitCode, MaunticJobsError
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
from mauntic_jobs.ops.monitor.conditions.upkeep import upkeep_failing
from mauntic_jobs.recovery.marker import open_loss
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session

_Look = Callable[[], list[Alert]]


class Watched(NamedTuple):
    """What was found, what was told, and why some causes could not be looked for."""

    found: list[Alert]
    notified: Notified
    unknown: dict[Cause, Exception]

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a command that looks once: a look that failed comes before alerts that no channel took."""
        if (error := next(iter(self.unknown.values()), None)) is not None:
            return error.exit_code if isinstance(error, MaunticJobsError) else ExitCode.FAILED
        return ExitCode.ALERT_UNDELIVERABLE if self.notified.untold else ExitCode.DONE


def tell_of_ledger(installation: Installation, skew: ClockSkewError | None) -> Notified:
    """Look at what the ledger and Postgres alone know, and tell of it; `skew` says that this host's clock is wrong."""
    session, settings, now = installation.session, installation.settings, installation.now
    record_skew(session, settings, now, skew)
    looks, names = _of_jobs(installation), [job.name for job in installation.jobs]
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
    found, unknown = record_skew(session, settings, now, skew), dict[Cause, Exception]()
    notified = Notified()
    # What Postgres tells is told before Redis is asked, which may take its time.
    for looks in (_looks(installation), _looks_at_redis(installation)):
        for cause, look in looks:
            try:
                found += _recorded(installation, cause, look())
            except Exception as error:
                if session.broken:
                    raise
                unknown[cause] = error
                kind = "" if isinstance(error, MaunticJobsError) else f"{type(error).__name__}: "
                log(f"monitor: cannot tell of {cause}: {kind}{error}")
        notified += send_due(session, settings, now)
    return Watched(found, notified, unknown)


def _recorded(installation: Installation, cause: Cause, alerts: list[Alert]) -> list[Alert]:
    """Write down what a look has found, and end what it has not found any more."""
    session, now = installation.session, installation.now
    if cause is Cause.DEAD_LETTERS or (cause in _OF_REDIS and open_loss(session, installation.settings)):
        # An empty Redis shows nothing that is wrong: it ends no alert. Looks at dead letters end theirs themselves.
        open_alerts(session, alerts, now)
    else:
        keys = [job.name for job in installation.jobs] if cause in _OF_JOBS else None
        record(session, alerts, now, causes=[cause], keys=keys)
    return alerts


def _looks(installation: Installation) -> Iterable[tuple[Cause, _Look]]:
    """Yield the looks that ask Postgres alone."""
    session, now, settings = installation.session, installation.now, installation.settings
    yield from _of_jobs(installation).items()
    yield Cause.UPKEEP_FAILING, lambda: upkeep_failing(session)
    yield Cause.BACKFILL_STUCK, lambda: backfills_stuck(session)
    yield Cause.SECOND_CLOCK, lambda: second_clocks(installation) + lines_taking_turns(session, installation.jobs)
    yield Cause.DELIVERIES_HELD, lambda: deliveries_held(session, now)
    yield Cause.DELIVERIES_DEFERRED, lambda: deliveries_deferred(session, now)
    yield Cause.RECIPIENTS_REFUSED, lambda: recipients_refused(session, now)
    yield Cause.RECEIVERS_DEFERRING, lambda: receivers_deferring(session, now)
    yield Cause.PROVIDER_FAILED_OVER, lambda: providers_failed_over(session, now)
    yield Cause.REPUTATION, lambda: reputations(session, settings, now)
    yield Cause.DELIVERIES_EXPIRED, lambda: deliveries_expired(session, now)
    yield from _at_dead_letters(installation, of_runs=True)


def _looks_at_redis(installation: Installation) -> Iterable[tuple[Cause, _Look]]:
    if installation.settings.redis_url is not None:
        yield Cause.REDIS_LOST, lambda: redis_losses(installation)
        yield Cause.CONSUMER_STUCK, lambda: consumers_stuck(installation)
        yield from _at_dead_letters(installation, of_runs=False)


def _at_dead_letters(installation: Installation, *, of_runs: bool) -> Iterable[tuple[Cause, _Look]]:
    """Yield a look for each of the settings' limits. Without Redis there are no dead letters to retry or discard."""
    if installation.settings.redis_url is not None:
        # It takes as long to import as everything else of the monitor.
        from mauntic_jobs.ops.dead_letters.alerts import letters_over

        for limits in installation.settings.dead_letters:
            yield Cause.DEAD_LETTERS, partial(letters_over, installation, limits, of_runs=of_runs)


_OF_JOBS = (Cause.JOB_FAILED, Cause.SLOT_MISSED, Cause.RUN_TOO_LONG)
_OF_REDIS = (Cause.CONSUMER_STUCK,)


def _of_jobs(installation: Installation) -> dict[Cause, _Look]:
    session, jobs = installation.session, installation.jobs
    return {
        Cause.JOB_FAILED: lambda: failures(session, jobs),
        Cause.GROUPS_WITHHELD: lambda: groups_withheld(session),
        Cause.SLOT_MISSED: lambda: slots_missed(installation),
        Cause.RUN_TOO_LONG: lambda: runs_too_long(session, jobs, installation.now),
    }
