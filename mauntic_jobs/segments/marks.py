"""Marks of segment triggers: up to which transaction each was evaluated, and whether only changes need be looked at.

A mark's horizon is the oldest transaction that was still open when the evaluation began. Each transaction before it had
ended, so the evaluation saw all that they wrote; what it may not have seen is in rows that a transaction at or after
the horizon wrote, and such a row shows that: its `xmin` is that transaction, or a subtransaction of it, which has a
later id. No clock takes part, and it does not matter when a transaction commits. docs/segments.md has the reasons.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from mauntic_jobs.job import Transaction
from mauntic_jobs.segments.trigger_evaluation import TriggerEvaluation
from mauntic_jobs.sql import statements

# The tables whose rows decide who enters.
TABLES = ("crm.contacts", "crm.segment_contacts", "journey.journey_executions")

# Row versions hold 32 bits of an id: two that are further apart than half of that cannot be compared.
_MAX_SPAN = 2**30

_DAY = timedelta(days=1)

_sql = statements("segment_marks")


@dataclass(frozen=True)
class Horizon:
    """How far a transaction surely sees, as transaction ids, and the store that the ids are good for."""

    horizon: int
    next: int
    store: str
    collation: str


@dataclass(frozen=True)
class TriggerMark:
    """Up to where a trigger was evaluated. Times are naive, in UTC."""

    store: str
    horizon: int
    fingerprint: str
    evaluated_at: datetime
    full_at: datetime


def read_horizon(transaction: Transaction) -> Horizon:
    """Return how far all later statements of the transaction surely see."""
    return Horizon(**transaction.row(_sql["horizon"], {"tables": list(TABLES)}))


def read_marks(transaction: Transaction, triggers: Sequence[UUID]) -> dict[UUID, TriggerMark]:
    """Return the marks of triggers, by their ids; one that was never evaluated, or failed last, has none."""
    rows = transaction.rows(_sql["list"], {"triggers": list(triggers)})
    return {row.pop("trigger_id"): TriggerMark(**row) for row in rows}


def is_usable(mark: TriggerMark, horizon: Horizon, fingerprint: str, organization: UUID, now: datetime) -> bool:
    """Return whether what changed since the mark is all that has to be evaluated. `now` is naive, in UTC.

    It is not if something else is evaluated than then, if the mark is of another store or too old to compare with, if
    a clock has gone back behind it, or once a day.
    """
    return (
        mark.fingerprint == fingerprint
        and mark.store == horizon.store
        and mark.horizon <= horizon.horizon
        and horizon.next - mark.horizon < _MAX_SPAN
        and mark.evaluated_at <= now
        and latest_full_time(organization, now) <= mark.full_at <= now
    )


def latest_full_time(organization: UUID, now: datetime) -> datetime:
    """Return when an organization's daily full evaluation was due last: the organizations have times of their own."""
    since_midnight = timedelta(seconds=organization.int % 86_400)
    due = now.replace(hour=0, minute=0, second=0, microsecond=0) + since_midnight
    return due if due <= now else due - _DAY


def write_marks(
    transaction: Transaction,
    horizon: Horizon,
    now: datetime,
    evaluations: Sequence[TriggerEvaluation],
    full_at: Sequence[datetime],
) -> None:
    """Write the marks of triggers, with the times of their last full evaluations. Times are naive, in UTC."""
    transaction.execute(
        _sql["write"],
        {
            "store": horizon.store,
            "horizon": str(horizon.horizon),
            "now": now,
            "triggers": [each.trigger for each in evaluations],
            "organizations": [each.organization for each in evaluations],
            "fingerprints": [each.fingerprint for each in evaluations],
            "full_at": list(full_at),
        },
    )


def forget_marks(transaction: Transaction, triggers: Sequence[UUID]) -> None:
    """Remove the marks of triggers, whose next evaluation is a full one then, and of triggers that are no more."""
    transaction.execute(_sql["forget"], {"triggers": list(triggers)})
