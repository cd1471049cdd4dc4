"""Receivers that ask to wait: greylisting of a few is business as usual, a large share of what is sent is not."""

from datetime import datetime

from mauntic_jobs.alerts.alert import Alert, Cause, Severity
from mauntic_jobs.delivery.ledger.waits import Wait
from mauntic_jobs.job import Row
from mauntic_jobs.ops.monitor.sent import WITHIN, Sender, sent_messages
from mauntic_jobs.redaction.payloads import mask_text, shorten
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session

# Receivers that limit a sender for its reputation or volume defer most of its messages; greylisting alone stays below.
MAX_SHARE = 0.2
# A share of fewer says nothing.
_MIN_WAITING = 20
# So many deferred messages are looked at each minute, those that are due first.
_MAX_COUNTED = 100_000
_REASON_LENGTH = 300

_sql = statements("monitor")


def receivers_deferring(session: Session, now: datetime) -> list[Alert]:
    """Return an alert for each provider of an organization whose messages receivers ask to wait with too often."""
    asked = {"since": now - WITHIN, "wait": Wait.RECEIVER, "fewest": _MIN_WAITING, "most": _MAX_COUNTED}
    waiting = session.rows(_sql["waiting"], asked)
    if not waiting:
        return []
    sent = sent_messages(session, {row["organization_id"] for row in waiting}, now)
    judged = [(row, _share(row, sent.get(_sender(row), 0))) for row in waiting]
    return [_alert(row, share) for row, share in judged if share > MAX_SHARE]


def _sender(row: Row) -> Sender:
    return Sender(row["organization_id"], row["channel"], row["provider_id"])


def _share(row: Row, sent: int) -> float:
    waiting = int(row["deliveries"])
    return waiting / (waiting + sent)


def _alert(row: Row, share: float) -> Alert:
    organization, channel, provider = row["organization_id"], row["channel"], row["provider_id"]
    return Alert(
        cause=Cause.RECEIVERS_DEFERRING,
        key=f"{channel}/{provider}/{organization}",
        severity=Severity.WARNING,
        summary=(
            f"Receivers ask to wait with {share:.1%} of the {channel} messages of organization {organization} over "
            f"{row['provider']} within 1 h (limit {MAX_SHARE:.1%}): {row['deliveries']:,} messages. "
            f"Most common reason: {shorten(mask_text(row['reason']), _REASON_LENGTH)}"
        ),
        action=f"mauntic-jobs deliveries list --state deferred --channel {channel} --org {organization}",
        details={"deliveries": row["deliveries"], "share": round(share, 4), "provider": str(provider)},
    )
