"""Notice for a channel: one alert, for the first time, again, or as over."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from mauntic_jobs.alerts.alert import Detail
from mauntic_jobs.alerts.ledger import AlertRow
from mauntic_jobs.redaction.printable import printable
from mauntic_jobs.settings.alert_channels import Severity
from mauntic_jobs.timekeeping.window import format_duration


class Event(StrEnum):
    """What is told of an alert."""

    OPENED = "opened"
    REPEATED = "repeated"
    CLOSED = "closed"
    TEST = "test"


@dataclass(frozen=True)
class Notice:
    """One message. `key` names it, the same however often it is tried; `source` is who sends it, `at` when."""

    key: str
    event: Event
    fingerprint: str
    cause: str
    severity: Severity
    summary: str
    action: str
    details: Mapping[str, Detail]
    opened_at: datetime
    closed_at: datetime | None
    seen: int
    source: str
    at: datetime

    @property
    def title(self) -> str:
        """One line that says it all."""
        if self.event is Event.CLOSED:
            return printable(f"[over] {self.fingerprint}")
        again = " again" if self.event is Event.REPEATED else ""
        return printable(f"[{self.severity}{again}] {' '.join(self.summary.split())}")

    @property
    def lines(self) -> list[str]:
        """What follows the title."""
        if self.closed_at is not None:
            # To the second: more is not read.
            lasted = timedelta(seconds=round((self.closed_at - self.opened_at).total_seconds()))
            known = [f"It was: {self.summary}", f"Open for {format_duration(lasted)}. From {self.source}."]
        else:
            known = [f"Next: {self.action}", f"Open since {self.opened_at:%Y-%m-%d %H:%M} UTC. From {self.source}."]
        return [printable(line) for line in known]


def notice_of(row: AlertRow, source: str, now: datetime) -> Notice:
    """Return what is to be told of an alert as it stands in the ledger."""
    if row["closed_at"] is not None:
        event, mark = Event.CLOSED, ""
    elif row["notified_at"] is not None:
        event, mark = Event.REPEATED, f"-{row['notified_at'].timestamp():.0f}"
    else:
        event, mark = Event.OPENED, ""
    return Notice(
        key=f"alert-{row['id']}-{event}{mark}",
        event=event,
        severity=Severity(row["severity"]),
        source=source,
        at=now,
        fingerprint=row["fingerprint"],
        cause=row["cause"],
        summary=row["summary"],
        action=row["action"],
        details=row["details"],
        opened_at=row["opened_at"],
        closed_at=row["closed_at"],
        seen=row["seen"],
    )


def trial_notice(source: str, now: datetime) -> Notice:
    """Return a notice that shows that a channel works."""
    return Notice(
        key=f"test-{now.timestamp():.6f}",
        event=Event.TEST,
        fingerprint="test",
        cause="test",
        severity=Severity.INFO,
        summary="This is a test: alerts of mauntic-jobs arrive here.",
        action="nothing",
        details={},
        opened_at=now,
        closed_at=None,
        seen=1,
        source=source,
        at=now,
    )


def as_json(notice: Notice) -> dict[str, object]:
    """Return a notice in the schema that receivers of webhooks rely on: fields may be added, and none changes."""
    return {
        "schema": "mauntic-jobs/alert/1",
        "id": notice.key,
        "event": notice.event,
        "fingerprint": notice.fingerprint,
        "cause": notice.cause,
        "severity": notice.severity,
        "summary": notice.summary,
        "action": notice.action,
        "details": dict(notice.details),
        "seen": notice.seen,
        "opened_at": notice.opened_at.isoformat(),
        "closed_at": notice.closed_at.isoformat() if notice.closed_at else None,
        "source": notice.source,
    }
