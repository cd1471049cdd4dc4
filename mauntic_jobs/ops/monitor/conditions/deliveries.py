"""Deliveries that need an operator: ambiguous for long, refused by every provider, or expired."""

from datetime import datetime, timedelta

from mauntic_jobs.alerts.alert import Alert, Cause, Severity
from mauntic_jobs.delivery.ledger.waits import PATTERNS
from mauntic_jobs.job import Row
from mauntic_jobs.redaction.payloads import mask_text, shorten
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.wording import plural

# By then what is ambiguous was sent again, or the platform has heard of it, unless a human has to decide; and a
# provider that is still in trouble will hardly get out of it by itself.
_TOO_LONG = timedelta(minutes=30)
# A few expire where a producer adds old messages; more have waited for a `deliver` that was down.
_MAX_EXPIRED = 10
_EXPIRED_WITHIN = timedelta(days=1)
# So many are looked at each minute, however many there are.
_MAX_COUNTED = 10_000
_REASON_LENGTH = 300

_sql = statements("monitor")


def deliveries_held(session: Session, now: datetime) -> list[Alert]:
    """Return an alert for each channel with deliveries that have been held or ambiguous for more than 30 minutes."""
    return [_held(row) for row in session.rows(_sql["held"], _asked(now))]


def deliveries_deferred(session: Session, now: datetime) -> list[Alert]:
    """Return an alert for each channel with deliveries that no provider has taken for 30 minutes."""
    return [_deferred(row) for row in session.rows(_sql["deferred"], {**_asked(now), "waits": PATTERNS})]


def deliveries_expired(session: Session, now: datetime) -> list[Alert]:
    """Return an alert for each channel of which more than 10 deliveries have expired within a day."""
    rows = session.rows(_sql["expired"], {"since": now - _EXPIRED_WITHIN, "most": _MAX_COUNTED})
    return [_expired(row) for row in rows if row["deliveries"] > _MAX_EXPIRED]


def _asked(now: datetime) -> dict[str, datetime | int]:
    return {"before": now - _TOO_LONG, "most": _MAX_COUNTED}


def _count(deliveries: int) -> str:
    return f"{deliveries:,} or more" if deliveries >= _MAX_COUNTED else f"{deliveries:,}"


def _held(row: Row) -> Alert:
    return Alert(
        cause=Cause.DELIVERIES_HELD,
        key=row["channel"],
        severity=Severity.ERROR,
        summary=_held_text(row),
        action=f"mauntic-jobs deliveries list --state ambiguous --channel {row['channel']}",
        details={"deliveries": row["deliveries"], "held": row["held"], "since": row["since"].isoformat()},
    )


def _held_text(row: Row) -> str:
    if row["deliveries"] == 1:
        decision = "it needs a decision" if row["held"] else "it is sent again unless the platform hears of it"
        return f"1 {row['channel']} delivery has been ambiguous for 30 minutes; {decision}."
    needs = "1 needs" if row["held"] == 1 else f"{row['held']:,} need"
    count = f"{_count(row['deliveries'])} {row['channel']} deliveries"
    return f"{count} have been ambiguous for 30 minutes; {needs} a decision."


def _deferred(row: Row) -> Alert:
    return Alert(
        cause=Cause.DELIVERIES_DEFERRED,
        key=row["channel"],
        severity=Severity.ERROR,
        summary=(
            f"For 30 minutes no provider has taken {_messages(row)} of {plural(row['organizations'], 'organization')}; "
            "mauntic-jobs status says how many more wait on the queue. "
            f"Most common reason: {shorten(mask_text(row['reason']), _REASON_LENGTH)}"
        ),
        action=f"mauntic-jobs deliveries list --state deferred --channel {row['channel']}",
        details=_details(row),
    )


def _expired(row: Row) -> Alert:
    return Alert(
        cause=Cause.DELIVERIES_EXPIRED,
        key=row["channel"],
        severity=Severity.ERROR,
        summary=(
            f"{_messages(row)} of {plural(row['organizations'], 'organization')} expired within 24 h "
            f"(limit {_MAX_EXPIRED}): they were older than --max-age when their turn came, and were not sent."
        ),
        action=f"mauntic-jobs deliveries resend --state expired --since 24h --channel {row['channel']} --dry-run",
        details=_details(row),
    )


def _details(row: Row) -> Row:
    return {
        "deliveries": row["deliveries"],
        "organizations": row["organizations"],
        "since": row["since"].isoformat(),
    }


def _messages(row: Row) -> str:
    return f"{_count(row['deliveries'])} {row['channel']} {'message' if row['deliveries'] == 1 else 'messages'}"
