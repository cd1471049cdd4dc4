"""What a human asks of the delivery ledger, and decides."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from mauntic_jobs.config import Settings
from mauntic_jobs.delivery.channels import CHANNELS
from mauntic_jobs.delivery.ledger import RESEND_AFTER
from mauntic_jobs.delivery.ledger_entries import State
from mauntic_jobs.delivery.marks import key_of
from mauntic_jobs.delivery.queues import add_payloads, base_of, is_own_job, job_id_of
from mauntic_jobs.delivery.refused_results import record_refused
from mauntic_jobs.errors import RefusedError, UsageError
from mauntic_jobs.job import Row
from mauntic_jobs.lua import script
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres import Session
from mauntic_jobs.stores.redis import RedisScripts

_PAGE = 500
_NO_ORGANIZATION = UUID(int=0)

_sql = statements("deliveries")


@dataclass
class Reconciled:
    """What was put right: deliveries that are owed, those of them that had no job, and campaigns with messages missing.

    `recorded` results had been refused by Postgres, and `refused` still are; `closed` campaigns were all counted.
    `missing` are rows with the campaign's `id`, its `recipient_count`, and how many are `known` and `queued`.
    """

    owed: int = 0
    queued: int = 0
    recorded: int = 0
    refused: int = 0
    closed: int = 0
    missing: list[Row] = field(default_factory=list)


def list_deliveries(
    session: Session, states: Sequence[str] | None, organization: UUID | None, channel: str | None, limit: int
) -> list[Row]:
    """Return the latest deliveries, of some states, an organization or a channel."""
    parameters = {"organization": organization, "channel": channel, "limit": limit}
    return session.rows(_sql["list"], {"states": list(states) if states else None, **parameters})


def count_deliveries(session: Session, organization: UUID | None) -> list[Row]:
    """Return how many deliveries there are of each channel and state."""
    return session.rows(_sql["count"], {"organization": organization})


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
        "campaign_id": (row["payload"] or {}).get("campaignId"),
    }
    parameters = {"results": json.dumps([result]), "resend_after": RESEND_AFTER, "record_activity": record_activity}
    (answer,) = session.rows(_sql["record"], parameters)[0]["json_agg"]
    if not answer["recorded"]:
        raise RefusedError(f"The delivery {delivery} has just changed: look at it again.")


def resolve_resend(
    session: Session, redis: RedisScripts, settings: Settings, delivery: str, organization: UUID | None, now: datetime
) -> None:
    """Have an ambiguous or a failed delivery sent again. Raises UsageError, or RefusedError for any other."""
    row = _one(session, delivery, organization)
    if row["state"] in (State.AMBIGUOUS, State.FAILED) and row["payload"] is None:
        raise RefusedError(f"What the delivery {delivery} said is no longer kept: only its producer can send it again.")
    if row["state"] not in (State.AMBIGUOUS, State.FAILED):
        raise RefusedError(
            f"The delivery {delivery} is {row['state']}: only what is ambiguous or failed can be sent again."
        )
    queue_job = job_id_of(row, row["fence"] + 1)
    parameters = {"organization": row["organization_id"], "delivery": delivery, "fence": row["fence"]}
    counted = row["state"] == State.FAILED and row["unrecorded"] is None
    # First, so that no open delivery has a mark that says it was sent.
    redis.command("DEL", key_of(delivery))
    with session.transaction():
        session.execute(_sql["resend"], {**parameters, "queue_job": queue_job, "counted": counted})
    after = _one(session, delivery, row["organization_id"])
    if after["queue_job"] != queue_job:
        raise RefusedError(f"The delivery {delivery} has just changed: look at it again.")
    # Should the process die here, `reconcile` finds that it is owed.
    add_payloads(redis, settings, row["channel"], {queue_job: row["payload"]}, now)


def reconcile(
    session: Session, redis: RedisScripts, settings: Settings, now: datetime, *, dry_run: bool = False
) -> Reconciled:
    """Record and queue again what is owed, and close what is complete; running it twice doubles nothing.

    With `dry_run` it is only counted what would be queued.
    """
    done = Reconciled()
    if not dry_run:
        done.recorded, done.refused = record_refused(session, record_activity=settings.record_activity)
        done.closed = session.execute(_sql["close_campaigns"])
    for page in _owed(session):
        done.owed += len(page)
        calls = [_alive(settings, row) for row in page]
        alive = redis.run(script("live_jobs"), calls)
        lost = [row for row, is_alive in zip(page, alive, strict=True) if not is_alive]
        done.queued += len(lost)
        if dry_run:
            continue
        for channel in CHANNELS:
            payloads = {job_id_of(row, row["fence"]): row["payload"] for row in lost if row["channel"] == channel}
            add_payloads(redis, settings, channel, payloads, now)
        for row in lost:
            own = {"queue_job": job_id_of(row, row["fence"]), "fence": row["fence"]}
            key = {"organization": row["organization_id"], "delivery": row["delivery_id"]}
            session.execute(_sql["requeued"], {**key, **own})
    done.missing = _missing(session, redis, settings)
    return done


def _owed(session: Session) -> Iterator[list[Row]]:
    after: dict[str, Any] = {"organization": _NO_ORGANIZATION, "delivery": ""}
    while page := session.rows(_sql["owed"], {**after, "page": _PAGE}):
        yield page
        after = {"organization": page[-1]["organization_id"], "delivery": page[-1]["delivery_id"]}


def _alive(settings: Settings, row: Row) -> tuple[list[str], list[str]]:
    base = base_of(settings, row["channel"])
    return [f"{base}:{row['queue_job']}", f"{base}:completed", f"{base}:failed"], [row["queue_job"]]


def _missing(session: Session, redis: RedisScripts, settings: Settings) -> list[Row]:
    """Return the campaigns of which neither the ledger nor a queue knows all messages."""
    rows = [row for row in session.rows(_sql["campaigns"]) if row["recipient_count"] > row["known"]]
    if not rows:
        return []
    queued = _queued(redis, settings)
    rows = [{**row, "queued": queued.get(str(row["id"]), 0)} for row in rows]
    return [row for row in rows if row["recipient_count"] > row["known"] + row["queued"]]


def _queued(redis: RedisScripts, settings: Settings) -> dict[str, int]:
    """Return how many jobs on the queues are of each campaign, and have never been claimed."""
    counts: dict[str, int] = {}
    for channel in CHANNELS:
        base = base_of(settings, channel)
        ids = [each for name in ("wait", "active") for each in redis.command("LRANGE", f"{base}:{name}", 0, -1)]
        ids += [
            each for name in ("prioritized", "delayed") for each in redis.command("ZRANGE", f"{base}:{name}", 0, -1)
        ]
        names = [each.decode(errors="surrogateescape") for each in ids]
        keys = [f"{base}:{name}" for name in names if not is_own_job(name)]
        for data, made in _fields(redis, keys, "data", "ats"):
            campaign = _campaign(data) if not made else None
            if campaign is not None:
                counts[campaign] = counts.get(campaign, 0) + 1
    return counts


def _fields(redis: RedisScripts, keys: Sequence[str], *names: str) -> Iterator[list[bytes | None]]:
    for first in range(0, len(keys), _PAGE):
        yield from redis.commands(("HMGET", key, *names) for key in keys[first : first + _PAGE])


def _campaign(data: bytes | None) -> str | None:
    try:
        value = json.loads(data or b"null")
    except ValueError:
        return None
    job = value.get("jobId") if isinstance(value, dict) else None
    return job if isinstance(job, str) else None


def _one(session: Session, delivery: str, organization: UUID | None) -> Row:
    rows = session.rows(_sql["show"], {"delivery": delivery, "organization": organization})
    if not rows:
        raise UsageError(f"The ledger has no delivery {delivery}.")
    if len(rows) > 1:
        raise UsageError(f"{len(rows)} organizations have a delivery {delivery}: say which with --organization.")
    return rows[0]
