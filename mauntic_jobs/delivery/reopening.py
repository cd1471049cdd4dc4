"""Letting deliveries that have failed be sent again by the jobs that asked for them: many at once, and none twice."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from mauntic_jobs.delivery.ledger_entries import State
from mauntic_jobs.job import Row
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres import Session
from mauntic_jobs.stores.redis import RedisScripts

_CHANGED = "it has just changed: look at it again"

_sql = statements("deliveries")


@dataclass(frozen=True)
class Wish:
    """A delivery that is to be sent again by the BullMQ job `queue_job`, which was added at `added_at`."""

    organization: UUID
    delivery: str
    queue_job: str
    added_at: datetime


def reopen(session: Session, redis: RedisScripts, wishes: Sequence[Wish]) -> list[str | None]:
    """Have failed deliveries claimed again, as `resolve_resend` does; return for each why it must not be, or None.

    One that is open already, or that nobody has ever claimed, is left as it is. Afterwards the jobs are to be retried;
    should the process die before, `reconcile` finds what is owed, and calling this again changes nothing more.
    """
    if not wishes:
        return []
    rows = _standing(session, wishes)
    marks = redis.commands([("EXISTS", _mark(wish)) for wish in wishes])
    failed = [(wish, row) for wish, row in zip(wishes, rows, strict=True) if row["state"] == State.FAILED]
    if failed:
        # The Node engine marks failures as well, and its mark would be taken for having sent them. First, so that a
        # delivery is never open while its mark is still there.
        redis.command("DEL", *(_mark(wish) for wish, _ in failed))
    reopened = _reopen(session, failed)
    return [
        _CHANGED
        if row["state"] == State.FAILED and _key(wish) not in reopened
        else _refusal(wish, row, processed=bool(mark))
        for wish, row, mark in zip(wishes, rows, marks, strict=True)
    ]


def _standing(session: Session, wishes: Sequence[Wish]) -> list[Row]:
    found = session.rows(_sql["standing"], _keys(wishes))
    by_key = {(row["organization_id"], row["delivery_id"]): row for row in found}
    return [by_key[_key(wish)] for wish in wishes]


def _reopen(session: Session, failed: Sequence[tuple[Wish, Row]]) -> set[tuple[UUID, str]]:
    if not failed:
        return set()
    own = {"fences": [row["fence"] for _, row in failed], "queue_jobs": [wish.queue_job for wish, _ in failed]}
    with session.transaction():
        rows = session.rows(_sql["reopen"], {**_keys([wish for wish, _ in failed]), **own})
    return {(row["organization_id"], row["delivery_id"]) for row in rows}


def _keys(wishes: Sequence[Wish]) -> dict[str, list[UUID] | list[str]]:
    return {
        "organizations": [wish.organization for wish in wishes],
        "deliveries": [wish.delivery for wish in wishes],
    }


def _key(wish: Wish) -> tuple[UUID, str]:
    return wish.organization, wish.delivery


def _refusal(wish: Wish, row: Row, *, processed: bool) -> str | None:
    """Return why a delivery must not be sent again, or why it would not be."""
    state = row["state"]
    if state is None:
        return _unknown(wish, row["pruned_before"], processed=processed)
    match State(state):
        case State.SENT:
            return "it was sent"
        case State.SUPPRESSED:
            return "its address is on the suppression list"
        case State.EXPIRED:
            return "it was given up because it was too old"
        case State.AMBIGUOUS:
            return f"nobody knows whether it was sent: decide with `mauntic-jobs deliveries resolve {wish.delivery}`"
        case _:
            return None


def _unknown(wish: Wish, pruned_before: datetime | None, *, processed: bool) -> str | None:
    """Return why a delivery without a row in the ledger must not be sent again."""
    if pruned_before is not None and wish.added_at < pruned_before:
        return "it is older than the ledger: nobody knows whether it was sent"
    if processed:
        return (
            f"the Node engine has marked it as processed, which it also does after failures: delete {_mark(wish)} in "
            "Redis if you know that it was not sent"
        )
    return None


def _mark(wish: Wish) -> str:
    return f"delivery:idem:{wish.delivery}"
