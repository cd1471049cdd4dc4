"""Reconciliation of the delivery ledger with the queues: what is owed and has no job is put on its queue again."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from mauntic_jobs.delivery.channels import CHANNELS
from mauntic_jobs.delivery.ledger.ledger import RESEND_AFTER
from mauntic_jobs.delivery.ledger.refused_results import record_refused
from mauntic_jobs.delivery.ledger.settle import give_up
from mauntic_jobs.delivery.queues import add_payloads, base_of, is_own_job, next_job_id
from mauntic_jobs.job import Row
from mauntic_jobs.lua import script
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.stores.redis.client import RedisScripts

_PAGE = 500
# A claim can be committed after the sweep of leases has passed it, if Postgres hangs meanwhile. Its job asks for it
# again; if Redis has lost that too, only this search finds it.
_BEHIND = timedelta(hours=1)
_NO_ORGANIZATION = UUID(int=0)
# The lists of a queue with jobs that no process has finished, and how each is read.
_LISTS = {"wait": "LRANGE", "active": "LRANGE", "prioritized": "ZRANGE", "delayed": "ZRANGE"}
# What the script answers of a job.
_ALIVE, _ENDED = 1, -1

_LOST = "Redis has lost what it said before the ledger had it: only its producer can send it again"

_sql = statements("deliveries")


@dataclass
class Reconciled:
    """What was put right: deliveries that are owed, those of them that had no job, and campaigns with messages missing.

    `lost` are owed, and neither the queue nor the ledger has what they say: their process died before its first result,
    and then Redis lost their job. `recorded` results had been refused by Postgres, and `refused` still are; `closed`
    campaigns were all counted. `interrupted` were in the hands of a process that has died; `sending` still are in
    the hands of one, which may have died less than a minute ago.
    `missing` are rows with the campaign's `id`, its `recipient_count`, and how many are `known` and `queued`.
    """

    owed: int = 0
    queued: int = 0
    lost: int = 0
    interrupted: int = 0
    sending: int = 0
    recorded: int = 0
    refused: int = 0
    closed: int = 0
    missing: list[Row] = field(default_factory=list)


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
        done.interrupted = _end_leases(session)
    for page in _owed(session):
        done.owed += len(page)
        states = _states(redis, settings, [(row, row["queue_job"]) for row in page])
        without_job = [row for row, state in zip(page, states, strict=True) if state != _ALIVE]
        added, known = _fresh_ids(redis, settings, [row for row in without_job if row["payload"] is not None])
        lost = [row for row in without_job if row["payload"] is None]
        done.queued += len(added)
        done.lost += len(lost)
        if dry_run:
            continue
        keys = [(row["organization_id"], row["delivery_id"], row["queue_job"]) for row in lost]
        give_up(session, keys, _LOST, record_activity=settings.record_activity)
        for channel in CHANNELS:
            payloads = {name: row["payload"] for name, row in added.items() if row["channel"] == channel}
            add_payloads(redis, settings, channel, payloads, now)
        for name, row in (added | known).items():
            own = {"queue_job": name, "fence": row["fence"]}
            key = {"organization": row["organization_id"], "delivery": row["delivery_id"]}
            session.execute(_sql["requeued"], {**key, **own})
    done.sending = session.row(_sql["being_sent"], {"behind": _BEHIND})["deliveries"]
    done.missing = _missing(session, redis, settings)
    return done


def _end_leases(session: Session) -> int:
    """Name what a process that has died was sending, so that it is among what is owed; return how many."""
    ended = 0
    while page := session.rows(_sql["end_leases"], {"resend_after": RESEND_AFTER, "most": _PAGE, "behind": _BEHIND}):
        ended += len(page)
    return ended


def _owed(session: Session) -> Iterator[list[Row]]:
    after: dict[str, object] = {"organization": _NO_ORGANIZATION, "delivery": ""}
    while page := session.rows(_sql["owed"], {**after, "page": _PAGE}):
        yield page
        after = {"organization": page[-1]["organization_id"], "delivery": page[-1]["delivery_id"]}


def _states(redis: RedisScripts, settings: Settings, jobs: Sequence[tuple[Row, str]]) -> list[int]:
    """Return the script's answers about jobs, each given with the delivery that it asks for."""
    bases = [base_of(settings, row["channel"]) for row, _ in jobs]
    calls = [
        ([f"{base}:{name}", f"{base}:completed", f"{base}:failed"], [name])
        for base, (_, name) in zip(bases, jobs, strict=True)
    ]
    return redis.run(script("live_jobs"), calls)


def _fresh_ids(redis: RedisScripts, settings: Settings, rows: Sequence[Row]) -> tuple[dict[str, Row], dict[str, Row]]:
    """Return deliveries by the ids of the jobs to add for them, and by the ids of jobs that are on their queues.

    An id whose job has ended is passed over: BullMQ would ignore the addition. Two processes choose the same ids.
    """
    fresh: dict[str, Row] = {}
    known: dict[str, Row] = {}
    left = [(row, next_job_id(row, row["fence"], row["queue_job"])) for row in rows]
    while left:
        states = _states(redis, settings, left)
        ended = []
        for (row, name), state in zip(left, states, strict=True):
            if state == _ENDED:
                ended.append((row, next_job_id(row, row["fence"], name)))
            else:
                (known if state == _ALIVE else fresh)[name] = row
        left = ended
    return fresh, known


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
        for name, command in _LISTS.items():
            for page in _pages(redis, f"{base}:{name}", command):
                keys = [f"{base}:{job}" for job in page if not is_own_job(job)]
                for data, made in redis.commands(("HMGET", key, "data", "ats") for key in keys):
                    campaign = _campaign(data) if not made else None
                    if campaign is not None:
                        counts[campaign] = counts.get(campaign, 0) + 1
    return counts


def _pages(redis: RedisScripts, key: str, command: str) -> Iterator[list[str]]:
    """Yield the ids of a list of jobs in pages. What is added meanwhile moves some onto the next page as well."""
    first, before = 0, set[bytes]()
    while page := redis.command(command, key, first, first + _PAGE - 1):
        yield [each.decode(errors="surrogateescape") for each in page if each not in before]
        first, before = first + _PAGE, set(page)


def _campaign(data: bytes | None) -> str | None:
    try:
        value = json.loads(data or b"null")
    except ValueError:
        return None
    job = value.get("jobId") if isinstance(value, dict) else None
    return job if isinstance(job, str) else None
