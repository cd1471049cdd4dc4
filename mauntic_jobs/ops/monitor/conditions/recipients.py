"""Recipients that providers refuse: single ones are business as usual, a large share of what is sent is not."""

from collections import Counter
from datetime import datetime
from uuid import UUID

from mauntic_jobs.alerts.alert import Alert, Cause, Severity
from mauntic_jobs.job import Row
from mauntic_jobs.ops.monitor.sent import WITHIN, sent_messages
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session

# What large mailbox providers and email services begin to act on. Addresses that do not exist are looked at with the
# bounces that come later.
MAX_SHARES = {"spam": 0.005, "unsubscribed": 0.05}
# A share of fewer says nothing.
_MIN_REFUSED = 20
_NAMES = {"spam": "had complained", "unsubscribed": "had unsubscribed"}

_sql = statements("monitor")


def recipients_refused(session: Session, now: datetime) -> list[Alert]:
    """Return an alert for each organization, channel and class of refusal with too large a share within an hour."""
    asked = {"since": now - WITHIN, "classes": list(MAX_SHARES), "fewest": _MIN_REFUSED}
    refused = session.rows(_sql["refused"], asked)
    if not refused:
        return []
    sent: Counter[tuple[UUID, str]] = Counter()
    for sender, messages in sent_messages(session, {row["organization_id"] for row in refused}, now).items():
        sent[sender.organization, sender.channel] += messages
    judged = [(row, _share(row, sent[row["organization_id"], row["channel"]])) for row in refused]
    return [_alert(row, share) for row, share in judged if share > MAX_SHARES[row["reject_reason"]]]


def _share(row: Row, sent: int) -> float:
    refused = int(row["deliveries"])
    return refused / (refused + sent)


def _alert(row: Row, share: float) -> Alert:
    organization, kind = row["organization_id"], row["reject_reason"]
    return Alert(
        cause=Cause.RECIPIENTS_REFUSED,
        key=f"{row['channel']}/{kind}/{organization}",
        severity=Severity.WARNING,
        summary=(
            f"{share:.1%} of the {row['channel']} messages of organization {organization} within 1 h went to "
            f"recipients that {_NAMES[kind]} (limit {MAX_SHARES[kind]:.1%}): {row['deliveries']:,} messages. "
            "Providers block a sender for that."
        ),
        action=f"mauntic-jobs deliveries list --state failed --channel {row['channel']} --org {organization}",
        details={"deliveries": row["deliveries"], "share": round(share, 4), "class": kind},
    )
