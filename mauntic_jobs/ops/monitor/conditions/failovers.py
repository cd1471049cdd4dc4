"""Providers that refuse while another one of their organization carries their messages."""

from datetime import datetime

from mauntic_jobs.alerts.alert import Alert, Cause, Severity
from mauntic_jobs.delivery.sending.pauses import KNOWN_AFTER_PAUSE
from mauntic_jobs.job import Row
from mauntic_jobs.ops.monitor.sent import WITHIN, Sender, sent_messages
from mauntic_jobs.redaction.payloads import mask_text, shorten
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.wording import plural

_MAX_PROVIDERS = 1000
_REASON_LENGTH = 300

_sql = statements("monitor")


def providers_failed_over(session: Session, now: datetime) -> list[Alert]:
    """Return an alert for each paused provider whose organization has sent over another one since it refuses."""
    rows = session.rows(_sql["refusing"], {"ended": now - KNOWN_AFTER_PAUSE, "most": _MAX_PROVIDERS})
    counts: dict[datetime, dict[Sender, int]] = {}
    alerts = []
    for row in rows:
        since = max(row["since"], now - WITHIN)
        if since not in counts:
            counts[since] = sent_messages(session, {each["organization_id"] for each in rows}, now, since)
        carried = sum(messages for sender, messages in counts[since].items() if _is_another(sender, row))
        if carried:
            alerts.append(_alert(row, carried, since))
    return alerts


def _is_another(sender: Sender, row: Row) -> bool:
    return (
        sender.organization == row["organization_id"]
        and sender.channel == row["channel"]
        and sender.provider not in (None, row["provider_id"])
    )


def _alert(row: Row, carried: int, since: datetime) -> Alert:
    organization, channel = row["organization_id"], row["channel"]
    return Alert(
        cause=Cause.PROVIDER_FAILED_OVER,
        key=f"{channel}/{row['provider_id']}/{organization}",
        severity=Severity.WARNING,
        summary=(
            f"{row['provider']} of organization {organization} refuses since {row['since']:%Y-%m-%d %H:%M} UTC "
            f"({plural(row['tries'], 'try', 'tries')}), and another provider carries its messages: "
            f"{carried:,} {channel} since {since:%H:%M} UTC. "
            f"The refusal: {shorten(mask_text(row['reason']), _REASON_LENGTH)}"
        ),
        action=f"mauntic-jobs providers check --org {organization} --retry-now",
        details={"messages": carried, "tries": row["tries"], "provider": str(row["provider_id"])},
    )
