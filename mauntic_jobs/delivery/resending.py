"""Sending a campaign's failed messages again, and no others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from mauntic_jobs.config import Settings
from mauntic_jobs.delivery.queues import add_payloads, job_id_of
from mauntic_jobs.delivery.reopening import Wish, reopen
from mauntic_jobs.job import Row
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres import Session
from mauntic_jobs.stores.redis import RedisScripts

_sql = statements("deliveries")


@dataclass(frozen=True)
class Failed:
    """Which failed messages: those of a campaign (`delivery.delivery_jobs.id`), whose reason contains `reason`."""

    job: UUID
    reason: str | None = None


def count_failed(session: Session, which: Failed) -> list[Row]:
    """Return how many there are by `reason`, the most common first; `gone` have no content left to be sent again."""
    return session.rows(_sql["failed_reasons"], {"job": which.job, "reason": which.reason})


def failed_deliveries(session: Session, which: Failed, page: int) -> Iterator[list[Row]]:
    """Yield them, as far as their content is kept, in pages; each once, also if it fails again meanwhile."""
    after = ""
    while rows := session.rows(
        _sql["failed_page"], {"job": which.job, "reason": which.reason, "after": after, "page": page}
    ):
        yield rows
        after = rows[-1]["delivery_id"]


def resend(
    session: Session, redis: RedisScripts, settings: Settings, rows: Sequence[Row], now: datetime
) -> list[str | None]:
    """Put failed messages on their queues again; return for each why it must not be, or None.

    They pass the suppression list, the warm-up and the ledger like any other.
    """
    wishes = [_wish(row) for row in rows]
    refusals = reopen(session, redis, wishes)
    # Should the process die here, `reconcile` finds that they are owed.
    wanted = [(row, wish) for row, wish, why in zip(rows, wishes, refusals, strict=True) if why is None]
    for channel in {row["channel"] for row, _ in wanted}:
        payloads = {wish.queue_job: row["payload"] for row, wish in wanted if row["channel"] == channel}
        add_payloads(redis, settings, channel, payloads, now)
    return refusals


def _wish(row: Row) -> Wish:
    return Wish(row["organization_id"], row["delivery_id"], job_id_of(row, row["fence"] + 1), row["created_at"])
