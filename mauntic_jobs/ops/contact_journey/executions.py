"""Executions of a journey by one contact, step by step."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from mauntic_jobs.job import Row, Transaction
from mauntic_jobs.ops.contact_journey.entry_rules import instant
from mauntic_jobs.redaction.payloads import mask_text
from mauntic_jobs.sql import statements

_MAX_STEPS = 200

_sql = statements("contact_journey")


@dataclass(frozen=True)
class ExecutedStep:
    """One step as it was executed; `error` is masked."""

    step_id: UUID
    type: str | None
    status: str
    started_at: datetime | None
    ended_at: datetime | None
    error: str | None


@dataclass(frozen=True)
class JourneyExecution:
    """One execution, with its steps as they began.

    `run` let the contact in, None for another program, or where the record is pruned. `announced`: the outbox has the
    request to begin it, which was put on the executor's queue at `asked_at`, None for not yet.
    """

    execution_id: UUID
    status: str
    entered_at: datetime | None
    ended_at: datetime | None
    version: int | None
    run: int | None
    current_step_id: UUID | None
    announced: bool
    asked_at: datetime | None
    steps: Sequence[ExecutedStep]


def read_executions(
    transaction: Transaction, job: str, organization: UUID, journey: UUID, contact: UUID, limit: int
) -> list[JourneyExecution]:
    """Return the latest executions, at most `limit`; `job` is the one that lets contacts enter."""
    asked = {"job": job, "organization": organization, "journey": journey, "contact": contact, "limit": limit}
    return [_execution(transaction, organization, row) for row in transaction.rows(_sql["executions"], asked)]


def _execution(transaction: Transaction, organization: UUID, row: Row) -> JourneyExecution:
    asked = {"execution": row["id"], "organization": organization, "limit": _MAX_STEPS}
    return JourneyExecution(
        execution_id=row["id"],
        status=row["status"],
        entered_at=instant(row["entered_at"]),
        ended_at=instant(row["ended_at"]),
        version=row["version_number"],
        run=row["run"],
        current_step_id=row["current_step_id"],
        announced=row["announced"],
        asked_at=row["asked_at"],
        steps=[_step(each) for each in transaction.rows(_sql["steps"], asked)],
    )


def _step(row: Row) -> ExecutedStep:
    return ExecutedStep(
        step_id=row["step_id"],
        type=row["type"],
        status=row["status"],
        started_at=instant(row["started_at"]),
        ended_at=instant(row["ended_at"]),
        error=None if row["error"] is None else mask_text(row["error"]),
    )
