"""Watch of the ledger by a clock, and what is said of alerts that no channel took."""

from collections.abc import Callable, Sequence

from mauntic_jobs.alerts.notify import Notified
from mauntic_jobs.cli.framework.output import log
from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.installation import Installation
from mauntic_jobs.job import AnyJob
from mauntic_jobs.ops.monitor.ledger import watch_ledger
from mauntic_jobs.runner.clock_skew import compare_clocks
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping import clock


def watcher(jobs: Sequence[AnyJob], settings: Settings, told: list[Notified]) -> Callable[[Session], None]:
    """Return what `schedule run` looks at the ledger with; `told` gets what was told."""

    def watch(session: Session) -> None:
        try:
            there, skew = compare_clocks(session, clock.now)
            notified = watch_ledger(Installation(settings, there, jobs, session=session), skew)
        except MaunticJobsError as error:
            log(f"schedule: no alerts: {error}")
            return
        except Exception as defect:  # noqa: BLE001 - what looks at runs must not end the clock that makes them
            log(f"schedule: no alerts: {type(defect).__name__}: {defect}")
            return
        say_untold(notified)
        told.append(notified)

    return watch


def watch_beside(jobs: Sequence[AnyJob], settings: Settings) -> None:
    """Look at the ledger on a connection of its own, as the loop does."""
    try:
        with connect(settings) as session:
            watcher(jobs, settings, [])(session)
    except MaunticJobsError:
        # The loop says that the database is away.
        return


def say_untold(notified: Notified) -> None:
    """Say which channels took nothing, and which alerts none took."""
    for channel, problem in notified.broken.items():
        log(f"alert channel {channel}: {problem}")
    for alert, problem in notified.untold.items():
        log(f"no channel took the alert {alert}: {problem}")
