"""The alerts in Postgres: what is open, and who was told."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, cast

from typing_extensions import TypedDict

from mauntic_jobs.alerts.alert import Alert, Cause, Detail
from mauntic_jobs.job import Row
from mauntic_jobs.redaction.text import scrub
from mauntic_jobs.settings.alert_channels import Severity
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session, json

# More than sending may take; after this a claim counts as that of a dead process.
_LEASE = timedelta(minutes=1)
# When no channel took an alert, it is tried again after this: each time may take all the time there is.
_RETRY_PAUSE = timedelta(minutes=5)
_MAX_CLAIMED = 20

_sql = statements("alerts")


class NoticeOutcome(NamedTuple):
    """Which channel took a notice, or why none did; neither, if no channel wants its severity."""

    channel: str | None
    problem: str | None


class AlertRow(TypedDict):
    """An alert as the ledger has it; instants are aware, in UTC."""

    id: int
    fingerprint: str
    cause: str
    severity: Severity
    summary: str
    action: str
    details: dict[str, Detail]
    opened_at: datetime
    notified_at: datetime | None
    closed_at: datetime | None
    seen: int


def open_alerts(session: Session, alerts: Sequence[Alert], now: datetime) -> None:
    """Write down alerts, scrubbed; those that are open already were seen once more."""
    if alerts:
        # One statement cannot change a row twice.
        rows = {alert.fingerprint: _row(alert) for alert in alerts}
        session.execute(_sql["open"], {"alerts": json(list(rows.values())), "now": now})


def close_alerts(
    session: Session,
    causes: Sequence[Cause],
    now: datetime,
    *,
    keep: Collection[str],
    keys: Sequence[str] | None = None,
    until: datetime | None = None,
) -> None:
    """End the open alerts of some causes, but for the fingerprints of `keep`: only those of `keys`, if they are given.

    With `until`, only those of runs whose window ends no later.
    """
    only = None if keys is None else [f"{cause}:{key}" for cause in causes for key in keys]
    chosen = {"causes": [cause.value for cause in causes], "now": now, "keep": list(keep), "only": only, "until": until}
    session.execute(_sql["close"], chosen)


def claim(session: Session, now: datetime, repeat: timedelta) -> list[AlertRow]:
    """Return the alerts to be told of now, the most serious first; for a while no other process gets them."""
    asked = {"now": now, "repeat": repeat, "lease": _LEASE, "most": _MAX_CLAIMED}
    rows = cast("list[AlertRow]", session.rows(_sql["claim"], asked))
    return sorted(rows, key=lambda row: (-Severity(row["severity"]).rank, row["opened_at"], row["id"]))


def record_sent(session: Session, now: datetime, outcomes: Sequence[tuple[AlertRow, NoticeOutcome]]) -> None:
    """Write down what became of claimed alerts."""
    rows = [
        {"id": row["id"], "closing": row["closed_at"] is not None, **outcome._asdict()} for row, outcome in outcomes
    ]
    session.execute(_sql["told"], {"outcomes": json(rows), "now": now, "pause": _RETRY_PAUSE})


def list_alerts(session: Session, *, only_open: bool, since: datetime | None, limit: int) -> list[Row]:
    """Return alerts, latest first, that are open or were seen since then; at most `limit`."""
    return session.rows(_sql["list"], {"only_open": only_open, "since": since, "limit": limit})


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
