"""The alerts in Postgres: what is open, and who was told."""

from collections.abc import Collection, Sequence
from datetime import datetime

from mauntic_jobs.job import Row
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres import Session, json
from mauntic_jobs.telemetry.alerts.alert import Alert, Cause, Detail
from mauntic_jobs.telemetry.scrub import scrub

_sql = statements("alerts")


def open_alerts(session: Session, alerts: Sequence[Alert], now: datetime) -> None:
    """Write down alerts, scrubbed; those that are open already were seen once more."""
    if alerts:
        # One statement cannot change a row twice.
        rows = {alert.fingerprint: _row(alert) for alert in alerts}
        session.execute(_sql["open"], {"alerts": json(list(rows.values())), "now": now})


def close_alerts(
    session: Session, cause: Cause, now: datetime, *, keep: Collection[str] = (), only: Collection[str] | None = None
) -> None:
    """End the open alerts of a cause, but for the keys of `keep`, or only the keys of `only`."""
    chosen = {
        "cause": cause,
        "now": now,
        "keep": [f"{cause}:{key}" for key in keep],
        "only": None if only is None else [f"{cause}:{key}" for key in only],
    }
    session.execute(_sql["close"], chosen)


def _row(alert: Alert) -> Row:
    return {
        "fingerprint": alert.fingerprint,
        "cause": alert.cause,
        "severity": alert.severity,
        "summary": scrub(alert.summary),
        "action": scrub(alert.action),
        "details": {name: _scrubbed(value) for name, value in alert.details.items()},
    }


def _scrubbed(value: Detail) -> Detail:
    return scrub(value) if isinstance(value, str) else value
