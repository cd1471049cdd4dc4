"""New claims for deliveries that were not sent: many at once, and none twice."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from mauntic_jobs.delivery.ledger.records import State
from mauntic_jobs.delivery.node_marks import Mark, key_of, read_mark
from mauntic_jobs.job import Row
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.stores.redis.client import RedisScripts

_SENT_ELSEWHERE = "the Node engine has sent it"
_CHANGED = "it has just changed: look at it again"

_sql = statements("deliveries")


@dataclass(frozen=True)
class ReopenRequest:
    """A delivery that is to be sent again by the BullMQ job `queue_job`, which was added at `added_at`."""

    organization: UUID
    delivery: str
    queue_job: str
    added_at: datetime


def reopen(
    session: Session, redis: RedisScripts, wishes: Sequence[ReopenRequest], state: State = State.FAILED
) -> list[str | None]:
    """Have deliveries of a state, FAILED or EXPIRED, claimed again; return for each why it must not be, or None.

    One that is open already, or that no process has ever claimed, is left as it is. Afterwards the jobs are to be
    retried; should the process die before, `reconcile` finds what is owed, and calling this again changes nothing more.
    """
    if not wishes:
        return []
    rows = _standing(session, wishes)
    values = redis.commands([("GET", key_of(wish.delivery)) for wish in wishes])
    marks = [read_mark(value, wish.organization) for value, wish in zip(values, wishes, strict=True)]
    refusals = [refusal(wish, row, mark, state) for wish, row, mark in zip(wishes, rows, marks, strict=True)]
    wanted = [each for each in zip(wishes, rows, marks, refusals, strict=True) if each[3] is None]
    in_the_way = [key_of(wish.delivery) for wish, _, mark, _ in wanted if mark is not Mark.NONE]
    if in_the_way:
        # First, so that a delivery is never open while its mark is still there.
        redis.commands([("DEL", mark) for mark in in_the_way])
    reopened = _reopen(session, [(wish, row) for wish, row, _, _ in wanted if row["state"] == state], state)
    return [
        _CHANGED if why is None and row["state"] == state and _key(wish) not in reopened else why
        for wish, row, why in zip(wishes, rows, refusals, strict=True)
    ]


def refusal(wish: ReopenRequest, row: Row, mark: Mark, wanted: State = State.FAILED) -> str | None:
    """Return why a delivery must not be sent again, or why it would not be."""
    state = row["state"]
    if state is None:
        return _unknown(wish, row["pruned_before"], mark)
    if state == wanted:
        return _SENT_ELSEWHERE if mark is Mark.SENT else None
    return {
        State.SENT: "it was sent",
        State.SUPPRESSED: "it must not go to its recipient",
        State.FAILED: "it has failed",
        State.EXPIRED: "it was given up because it was too old: `mauntic-jobs deliveries resend --state expired`",
        State.AMBIGUOUS: "it is unknown whether it was sent: "
        f"decide with `mauntic-jobs deliveries resolve {wish.delivery}`",
    }.get(State(state))


def keys(wishes: Sequence[ReopenRequest]) -> dict[str, list[UUID] | list[str]]:
    """Return the parameters that name deliveries."""
    return {
        "organizations": [wish.organization for wish in wishes],
        "deliveries": [wish.delivery for wish in wishes],
    }


def _standing(session: Session, wishes: Sequence[ReopenRequest]) -> list[Row]:
    found = session.rows(_sql["standing"], keys(wishes))
    by_key = {(row["organization_id"], row["delivery_id"]): row for row in found}
    return [by_key[_key(wish)] for wish in wishes]


def _reopen(session: Session, unsent: Sequence[tuple[ReopenRequest, Row]], state: State) -> set[tuple[UUID, str]]:
    if not unsent:
        return set()
    own = {"fences": [row["fence"] for _, row in unsent], "queue_jobs": [wish.queue_job for wish, _ in unsent]}
    with session.transaction():
        rows = session.rows(_sql["reopen"], {**keys([wish for wish, _ in unsent]), **own, "state": state})
    return {(row["organization_id"], row["delivery_id"]) for row in rows}


def _key(wish: ReopenRequest) -> tuple[UUID, str]:
    return wish.organization, wish.delivery


def _unknown(wish: ReopenRequest, pruned_before: datetime | None, mark: Mark) -> str | None:
    """Return why a delivery without a row in the ledger must not be sent again."""
    if pruned_before is not None and wish.added_at < pruned_before:
        return "it is older than the ledger: it is unknown whether it was sent"
    match mark:
        case Mark.SENT:
            return _SENT_ELSEWHERE
        case Mark.SUPPRESSED:
            return "the Node engine has suppressed it"
        case Mark.OWN:
            return "mauntic-jobs has sent it, and the ledger has lost that"
        case Mark.UNKNOWN:
            return (
                f"{key_of(wish.delivery)} in Redis has a value that the Node engine does not write: delete it if you "
                "know that the message was not sent"
            )
        case _:
            return None
