"""Settlement of deliveries by a command: messages that wait, and that nothing shall send any more."""

import json
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from mauntic_jobs.delivery.ledger.ledger import RESEND_AFTER
from mauntic_jobs.delivery.ledger.records import State
from mauntic_jobs.delivery.sending.failover import clean
from mauntic_jobs.errors import ConfigurationError, MaunticJobsError
from mauntic_jobs.job import Row
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import format_duration

_WAITING = (State.CLAIMED, State.DEFERRED, State.AMBIGUOUS)

_sql = statements("deliveries")


def give_up(
    session: Session, jobs: Sequence[tuple[UUID, str, str]], reason: str, *, record_activity: bool
) -> list[str | None]:
    """Let deliveries, given as organization, id and BullMQ job, wait no longer; return why one must wait, or None.

    One that was not sent fails and is counted; of one that may have been sent a human decides. Those that are settled,
    or for which another job asks, stay as they are.
    """
    keys = {"organizations": [each for each, _, _ in jobs], "deliveries": [each for _, each, _ in jobs]}
    found = session.rows(_sql["standing"], keys) if jobs else []
    by_key = {(row["organization_id"], row["delivery_id"]): row for row in found}
    rows = [by_key[organization, delivery] for organization, delivery, _ in jobs]
    open_rows = [
        row
        for row, (_, _, job) in zip(rows, jobs, strict=True)
        if row["queue_job"] == job and row["state"] in (*_WAITING, State.SENDING) and not row["held"]
    ]
    # Two jobs of one delivery cannot both be the last that asked for it.
    results = [_result(row, State.FAILED, reason, hold=True) for row in open_rows]
    recorded = settle(session, results, record_activity=record_activity)
    refused = {
        (row["organization_id"], row["delivery_id"]): _refusal(row)
        for row, is_recorded in zip(open_rows, recorded, strict=True)
        if not is_recorded
    }
    return [refused.get((organization, delivery)) for organization, delivery, _ in jobs]


def expire(session: Session, rows: Sequence[Row], age: timedelta) -> list[bool]:
    """Give up deliveries that nothing has moved for `age`, for good; return of each whether it is expired now.

    They are counted as failed. Of one that is `uncertain` a human could have decided, and has not.
    """
    waited = format_duration(age)
    results = [
        _result(
            row,
            State.EXPIRED,
            f"given up: it may have been sent, and was not resolved within {waited}"
            if row["uncertain"]
            else f"given up: nothing has moved it for {waited}",
            for_good=True,
        )
        for row in rows
    ]
    return settle(session, results, record_activity=False)


def settle(session: Session, results: Sequence[dict[str, object]], *, record_activity: bool) -> list[bool]:
    """Record results of deliveries in one statement; return of each whether it counts.

    Where Postgres refuses that, it is tried with halves, and the one that is refused is recorded in the ledger alone;
    all are where the role may write nothing else. `reconcile` records the rest.
    """
    if not results:
        return []
    parameters: dict[str, object] = {
        "results": json.dumps([{**each, "n": n} for n, each in enumerate(results)]),
        "resend_after": RESEND_AFTER,
    }
    try:
        (answer,) = session.rows(_sql["record"], {**parameters, "record_activity": record_activity})
    except MaunticJobsError as error:
        if error.transient:
            raise
        if len(results) > 1 and not isinstance(error, ConfigurationError):
            middle = len(results) // 2
            halves = (results[:middle], results[middle:])
            return [each for half in halves for each in settle(session, half, record_activity=record_activity)]
        (answer,) = session.rows(_sql["record_alone"], {**parameters, "refused": clean(str(error))})
    by_number = {row["n"]: row["recorded"] for row in answer["json_agg"]}
    return [by_number[n] for n in range(len(results))]


def _result(row: Row, state: State, reason: str, **more: bool) -> dict[str, object]:
    return {
        "organization_id": str(row["organization_id"]),
        "delivery_id": row["delivery_id"],
        "fence": row["fence"],
        "state": state,
        "reason": reason,
        "given_up": True,
        **more,
    }


def _refusal(row: Row) -> str:
    if row["state"] == State.SENDING:
        return "it is being sent: look at it again in some minutes"
    return "it has just changed: look at it again"
