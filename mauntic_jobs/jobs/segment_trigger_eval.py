"""`segment-trigger-eval`: contacts of a segment enter the journeys that it triggers.

Everything is decided in SQL, set by set; no list of contacts travels through this process. One trigger that cannot be
evaluated is reported and undone by itself, and the others go on.
"""

from collections import Counter
from datetime import timedelta
from typing import Annotated
from uuid import UUID

from pydantic import Field

from mauntic_jobs.errors import JobFailedError, StatementTimeoutError, UsageError
from mauntic_jobs.job import Context, Job, JobOptions, JobResult, Row
from mauntic_jobs.jobs.options import only
from mauntic_jobs.segments.members import members_statement, readings_agree, readings_statement
from mauntic_jobs.segments.trigger import SegmentTrigger, parse_trigger
from mauntic_jobs.settings.types import Duration, SegmentReading
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.values import unreadable
from mauntic_jobs.timekeeping.catch_up import CatchUp, Which
from mauntic_jobs.timekeeping.window import Unit, Window, naive

_BATCH = 10_000

_sql = statements("segment_triggers")


class SegmentTriggerEvalOptions(JobOptions):
    """The options of `segment-trigger-eval`."""

    org: list[UUID] = only("organization")
    journey: list[UUID] = only("journey")
    trigger: list[UUID] = only("trigger")
    explain: bool = Field(
        False, description="Show each segment's SQL, its plan, and where the platform would count other members."
    )
    time_limit: Annotated[Duration, Field(gt=timedelta())] = Field(
        timedelta(minutes=1), json_schema_extra={"metavar": "TIME"}, description="For each statement. Default: 1m."
    )


def run(context: Context[SegmentTriggerEvalOptions], _window: Window) -> JobResult:
    """Evaluate every trigger now. The result is partial if one of them failed."""
    options = context.options
    context.transaction.row(_sql["limit_time"], {"timeout": f"{options.time_limit // timedelta(milliseconds=1)}"})
    triggers = context.transaction.rows(
        _sql["triggers"],
        {
            "organizations": options.org or None,
            "journeys": options.journey or None,
            "triggers": options.trigger or None,
        },
    )
    if not triggers and (options.org or options.journey or options.trigger):
        raise UsageError("No segment trigger of an active journey fits these options.")
    lines = [_evaluate_apart(context, trigger) for trigger in triggers]
    problems = [f"trigger {line['trigger']}: {line['problem']}" for line in lines if line["problem"]]
    counters = Counter(line["outcome"] for line in lines)
    return JobResult(
        counters={
            "triggers": len(lines),
            "entered": sum(line["entering"] for line in lines),
            "unpublished": counters["unpublished"],
            "failed": counters["failed"],
        },
        changes=[_shown(line) for line in lines] if context.dry_run else (),
        partial=counters["failed"] > 0,
        problems=problems,
    )


def _evaluate_apart(context: Context[SegmentTriggerEvalOptions], trigger: Row) -> Row:
    line: Row = {"trigger": trigger["id"], "journey": trigger["journey"], "members": 0, "entering": 0, "problem": None}
    try:
        with context.transaction.savepoint():
            line |= _evaluate(context, trigger)
    except (JobFailedError, StatementTimeoutError) as error:
        line |= {"outcome": "failed", "problem": str(error)}
    return line


def _evaluate(context: Context[SegmentTriggerEvalOptions], trigger: Row) -> Row:
    transaction, now = context.transaction, naive(context.now)
    _check_readable("the trigger", trigger)
    config = parse_trigger(trigger["config"])
    segment = _segment(context, trigger, config)
    version = next(iter(transaction.rows(_sql["version"], {"journey": trigger["journey_id"], "now": now})), None)
    if version is None:
        return {"outcome": "unpublished", "problem": "its journey is active, but no version of it is published"}
    if version["entry_step_id"] is None:
        problem = "it has no step to begin with"
        if version["has_trigger_step"]:
            problem = "its trigger step leads to no other step"
        raise JobFailedError(f"the published version of the journey cannot be entered: {problem}")
    common = {
        "segment": segment["id"],
        "organization": trigger["organization_id"],
        "journey": trigger["journey_id"],
        "version": version["id"],
        "entry_step": version["entry_step_id"],
        "now": now,
    }
    _find_members(context, segment, common)
    transaction.execute(_sql["candidates"], common | config.rules(context.now))
    counts = transaction.row(_sql["counts"])
    entered = counts["candidates"] if context.dry_run else _enter(context, counts["candidates"], common)
    if not context.dry_run and _owns_count(context, segment):
        transaction.execute(_sql["count_members"], common | {"members": counts["members"]})
    transaction.execute(_sql["forget"])
    return {"outcome": "evaluated", "members": counts["members"], "entering": entered}


def _segment(context: Context[JobOptions], trigger: Row, config: SegmentTrigger) -> Row:
    found = context.transaction.rows(_sql["segment"], {"segment": config.segment_id})
    # A segment of another organization is not told from one that does not exist.
    if not found or found[0]["organization_id"] != trigger["organization_id"]:
        raise JobFailedError(f"its organization has no segment {config.segment_id}")
    if trigger["journey_organization_id"] != trigger["organization_id"]:
        raise JobFailedError("the trigger and its journey belong to different organizations")
    _check_readable("the segment", found[0])
    return found[0]


def _check_readable(what: str, row: Row) -> None:
    problem = unreadable(row)
    if problem is not None:
        raise JobFailedError(f"{what} cannot be read: {problem}")


def _find_members(context: Context[SegmentTriggerEvalOptions], segment: Row, common: Row) -> None:
    statement, criteria = members_statement(segment, context.settings.segments_compatibility)
    if context.options.explain:
        plan = context.transaction.rows(b"EXPLAIN " + statement, common | criteria)
        context.warn("\n".join([statement.decode(), *(row["QUERY PLAN"] for row in plan)]))
        _explain_readings(context, segment, common)
    context.transaction.execute(statement, common | criteria)


def _owns_count(context: Context[JobOptions], segment: Row) -> bool:
    """Return whether the segment's contact_count may be written: not where the platform writes another number."""
    return context.settings.segments_compatibility is SegmentReading.PLATFORM or readings_agree(segment)


def _explain_readings(context: Context[JobOptions], segment: Row, common: Row) -> None:
    try:
        found = readings_statement(segment)
    except JobFailedError as error:
        context.warn(f"segment {segment['id']}: only one reading of its criteria can be used: {error}")
        return
    if found is None:
        return
    statement, criteria = found
    counts = context.transaction.row(statement, common | criteria)
    if counts["only_strict"] or counts["only_platform"]:
        context.warn(
            f"segment {segment['id']}: its members differ by reading: {counts['only_strict']:,} only by the strict "
            f"one, {counts['only_platform']:,} only by the platform's. See docs/segments.md."
        )


def _enter(context: Context[JobOptions], candidates: int, common: Row) -> int:
    return sum(
        context.transaction.execute(_sql["enter"], common | {"after": after, "up_to": after + _BATCH})
        for after in range(0, candidates, _BATCH)
    )


def _shown(line: Row) -> Row:
    return {name: line[name] for name in ("journey", "trigger", "members", "entering", "problem")}


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
