"""`stale-execution-cleanup`: cancels journey executions that are active in name only.

The executions are judged once, then canceled in batches that pass over what an executor is working on: the job never
waits for an executor, and an executor waits for the job only at an execution that has been canceled already.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from pydantic import Field, PositiveInt

from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import Context, Job, JobOptions, JobResult, Row
from mauntic_jobs.jobs.options import check_known, only
from mauntic_jobs.settings.types import Duration
from mauntic_jobs.sql import statements
from mauntic_jobs.timekeeping.catch_up import CatchUp, Which
from mauntic_jobs.timekeeping.window import Unit, Window, format_duration, naive

_BATCH = 1_000

_sql = statements("stale_executions")


class StaleExecutionCleanupOptions(JobOptions):
    """The options of `stale-execution-cleanup`."""

    # Less is a slip, such as 7m for 7d, that would cancel nearly everything.
    older_than: Annotated[Duration, Field(ge=timedelta(hours=1))] = Field(
        timedelta(days=7),
        json_schema_extra={"metavar": "TIME"},
        description="Cancel what has been idle for longer than this; at least 1h. Default: 7d.",
    )
    org: list[UUID] = only("organization")
    journey: list[UUID] = only("journey")
    limit: PositiveInt = Field(
        100_000,
        json_schema_extra={"metavar": "COUNT"},
        description="Cancel at most this many, and leave the rest to the next run. Default: 100000.",
    )


def run(context: Context[StaleExecutionCleanupOptions], _window: Window) -> JobResult:
    """Cancel what is stale at `context.now`. Raises UsageError for ids that are unknown."""
    transaction, options = context.transaction, context.options
    parameters = {
        "now": naive(context.now),
        "cutoff": naive(_cutoff(context)),
        "older_than": format_duration(options.older_than),
        "organizations": options.org or None,
        "journeys": options.journey or None,
    }
    _check_known(context, parameters)
    transaction.execute(_sql["find"], parameters)
    summary = transaction.row(_sql["summary"])
    due = min(summary["stale"], options.limit)
    canceled, changes = due, list[Row]()
    if context.dry_run:
        changes = transaction.rows(_sql["by_journey"], {"limit": options.limit})
    else:
        canceled = _cancel(context, due, parameters)
    left = summary["stale"] - due
    if left:
        context.warn(f"{left:,} stale executions are left to the next run: --limit is {options.limit:,}")
    return JobResult({**summary, "canceled": canceled, "busy": due - canceled, "left": left}, changes)


def _cancel(context: Context[StaleExecutionCleanupOptions], due: int, parameters: Mapping[str, object]) -> int:
    """Cancel the first `due` of the stale executions, and return how many no executor had to do with."""
    transaction, canceled = context.transaction, 0
    transaction.execute(_sql["index"])
    for first in range(1, due + 1, _BATCH):
        batch = {"first": first, "last": min(first + _BATCH - 1, due)}
        positions = [row["position"] for row in transaction.rows(_sql["lock"], batch)]
        canceled += transaction.row(_sql["cancel"], {**parameters, "positions": positions})["canceled"]
    return canceled


def _cutoff(context: Context[StaleExecutionCleanupOptions]) -> datetime:
    try:
        return context.now - context.options.older_than
    except OverflowError:
        raise UsageError(
            f"--older-than {format_duration(context.options.older_than)} is too long: the calendar does not reach "
            "that far back."
        ) from None


def _check_known(context: Context[StaleExecutionCleanupOptions], parameters: Mapping[str, object]) -> None:
    if context.options.org:
        sentence = "No organization {} has a journey. Check --org."
        check_known(context.transaction, _sql["unknown_organizations"], parameters, sentence)
    if context.options.journey:
        sentence = "No journey {}. Check --journey."
        if context.options.org:
            sentence = "No journey {} in the given organizations. Check --journey and --org."
        check_known(context.transaction, _sql["unknown_journeys"], parameters, sentence)


STALE_EXECUTION_CLEANUP = Job(
    name="stale-execution-cleanup",
    summary="Cancel executions that have been idle for over a week.",
    description=(
        "Cancels the executions in journey.journey_executions that are active but have had no step for more than seven "
        "days and wait in no delay, and logs each in journey.execution_logs. It looks at the present: a window only "
        "labels the run. Running it again changes nothing."
    ),
    cron="0 3 * * *",
    unit=Unit.DAY,
    bucket=None,
    options=StaleExecutionCleanupOptions,
    run=run,
    critical=False,
    catch_up=CatchUp(Which.LATEST, timedelta(days=7)),
    queue="journey:stale-execution-cleanup",
)
