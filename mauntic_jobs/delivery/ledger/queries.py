"""Operators' queries of the delivery ledger, and their decisions."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from mauntic_jobs.delivery.ledger.ledger import RESEND_AFTER
from mauntic_jobs.delivery.ledger.records import State
from mauntic_jobs.delivery.node_marks import key_of
from mauntic_jobs.delivery.queues import add_payloads, job_id_of
from mauntic_jobs.errors import RefusedError, UsageError
from mauntic_jobs.job import Row
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.stores.redis.client import RedisScripts

_RESENT = (State.AMBIGUOUS, State.FAILED, State.EXPIRED)
_RECENT = timedelta(days=1)

_sql, _ledger_sql = statements("delivery_desk"), statements("deliveries")


def list_deliveries(
    session: Session,
    states: Sequence[str] | None,
    organization: UUID | None,
    channel: str | None,
    limit: int,
    now: datetime,
) -> list[Row]:
    """Return the deliveries that were claimed last, of some states, an organization or a channel."""
    asked = {"states": list(states) if states else None, "organization": organization, "channel": channel}
    if states and not {State.SENDING, State.SENT}.intersection(states):
        return session.rows(_sql["list_unsent"], {**asked, "limit": limit})
    # An organization that sends much has enough of the last day, and one that sends little has few in all.
    since = now - _RECENT if organization else None
    rows = session.rows(_sql["list"], {**asked, "limit": limit, "since": since})
    if organization and len(rows) < limit:
        return session.rows(_sql["list_of_organization"], {**asked, "limit": limit})
    return rows


def count_deliveries(session: Session, organization: UUID | None, now: datetime) -> list[Row]:
    """Return how many deliveries there are of each channel and state; of those that were sent, of the last 24 hours."""
    return session.rows(_sql["count"], {"organization": organization, "since": now - _RECENT})


def find_deliveries(session: Session, delivery: str, organization: UUID | None) -> list[Row]:
    """Return the deliveries of an id: none, one, or one of each organization that has it."""
    return session.rows(_sql["show"], {"delivery": delivery, "organization": organization})


def show_delivery(session: Session, delivery: str, organization: UUID | None) -> Row:
    """Return a delivery, with what the platform has heard of it as `events`. Raises UsageError unless there is one."""
    row = _one(session, delivery, organization)
    names = ("channel", "message_id", "provider_message_id")
    parameters = {"organization": row["organization_id"], "contact": row["contact_id"], "delivery": delivery}
    events = session.rows(_sql["events"], {**parameters, **{name: row[name] for name in names}})
    return {**row, "events": events}


def resolve_sent(session: Session, delivery: str, organization: UUID | None, *, record_activity: bool) -> None:
    """Record of an ambiguous delivery that it was sent. Raises UsageError, or RefusedError for any other."""
    row = _one(session, delivery, organization)
    if row["state"] != State.AMBIGUOUS:
        raise RefusedError(f"The delivery {delivery} is {row['state']}: only what is ambiguous can be said to be sent.")
    result = {
        "n": 0,
        "organization_id": str(row["organization_id"]),
        "delivery_id": delivery,
        "fence": row["fence"],
        "state": State.SENT,
        "reason": "resolved by hand",
    }
    parameters = {"results": json.dumps([result]), "resend_after": RESEND_AFTER, "record_activity": record_activity}
    (answer,) = session.rows(_ledger_sql["record"], parameters)[0]["json_agg"]
    if not answer["recorded"]:
        raise RefusedError(f"The delivery {delivery} has just changed: look at it again.")


def resolve_resend(
    session: Session, redis: RedisScripts, settings: Settings, delivery: str, organization: UUID | None, now: datetime
) -> None:
    """Have a delivery that is ambiguous, failed or expired sent again.

    Raises UsageError, or RefusedError for any other.
    """
    row = _one(session, delivery, organization)
    if row["state"] not in _RESENT:
        raise RefusedError(
            f"The delivery {delivery} is {row['state']}: only what is ambiguous, failed or expired can be sent again."
        )
    if row["payload"] is None:
        raise RefusedError(f"What the delivery {delivery} said is no longer kept: only its producer can send it again.")
    queue_job = job_id_of(row, row["fence"] + 1)
    parameters = {"organization": row["organization_id"], "delivery": delivery, "fence": row["fence"]}
    counted = row["state"] != State.AMBIGUOUS and row["unrecorded"] is None
    # First, so that no open delivery has a mark that says it was sent.
    redis.command("DEL", key_of(delivery))
    with session.transaction():
        session.execute(_ledger_sql["resend"], {**parameters, "queue_job": queue_job, "counted": counted})
    after = _one(session, delivery, row["organization_id"])
    if after["queue_job"] != queue_job:
        raise RefusedError(f"The delivery {delivery} has just changed: look at it again.")
    # Should the process die here, `reconcile` finds that it is owed.
    add_payloads(redis, settings, row["channel"], {queue_job: row["payload"]}, now)


def _one(session: Session, delivery: str, organization: UUID | None) -> Row:
    rows = find_deliveries(session, delivery, organization)
    if not rows:
        raise UsageError(f"The ledger has no delivery {delivery}.")
    if len(rows) > 1:
        raise UsageError(f"{len(rows)} organizations have a delivery {delivery}: say which with --org.")
    return rows[0]
