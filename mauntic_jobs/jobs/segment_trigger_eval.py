"""`segment-trigger-eval`: contacts of a segment enter the journeys that it triggers.

Everything is decided in SQL, set by set; no list of contacts travels through this process. The triggers of an
organization are evaluated together, in one scan of the contacts that changed since, or of all where a mark does not
vouch for the rest. One trigger that cannot be evaluated is reported and undone by itself, and the others go on.
"""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from pydantic import Field

from mauntic_jobs.job import Context, Job, JobOptions, JobResult
from mauntic_jobs.jobs.options import only
from mauntic_jobs.settings.types import Duration
from mauntic_jobs.timekeeping.catch_up import CatchUp, Which
from mauntic_jobs.timekeeping.window import Unit, Window


class SegmentTriggerEvalOptions(JobOptions):
    """The options of `segment-trigger-eval`."""

    org: list[UUID] = only("organization")
    journey: list[UUID] = only("journey")
    trigger: list[UUID] = only("trigger")
    full: bool = Field(False, description="Evaluate all contacts, not only those that changed.")
    explain: bool = Field(
        False, description="Show each segment's SQL, its plan, and where the platform would count other members."
    )
    time_limit: Annotated[Duration, Field(gt=timedelta())] = Field(
        timedelta(minutes=1), json_schema_extra={"metavar": "TIME"}, description="For each trigger. Default: 1m."
    )


def run(context: Context[SegmentTriggerEvalOptions], window: Window) -> JobResult:
    """Evaluate every trigger now. The result is partial if one of them failed."""
    # Every command that knows the jobs imports this module, and few evaluate a trigger.
    from mauntic_jobs.jobs.segment_evaluation import evaluate

    return evaluate(context, window)


SEGMENT_TRIGGER_EVAL = Job(
    name="segment-trigger-eval",
    summary="Let contacts of segments enter the journeys they trigger.",
    description=(
        "Evaluates every segment trigger of an active journey, as things stand now: contacts of the segment that may "
        "enter do, and the platform's executor is asked to begin. A window only names the run."
    ),
    cron="0 * * * *",
    unit=Unit.HOUR,
    bucket=None,
    options=SegmentTriggerEvalOptions,
    run=run,
    redis=True,
    publishes=True,
    catch_up=CatchUp(Which.LATEST, timedelta(hours=2)),
    queue="journey:segment-trigger-eval",
    measure="triggers",
)
