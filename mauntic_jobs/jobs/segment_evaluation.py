"""Evaluation of segment triggers, as `segment-trigger-eval` runs it: set by set, one organization after the other."""

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from uuid import UUID

from mauntic_jobs.errors import JobFailedError, StatementTimeoutError, UsageError
from mauntic_jobs.job import Context, JobOptions, JobResult, Row
from mauntic_jobs.jobs.segment_trigger_eval import SegmentTriggerEvalOptions
from mauntic_jobs.segments import marks
from mauntic_jobs.segments.evaluation_pass import EvaluationPass, TriggerOutcome, TriggerState
from mauntic_jobs.segments.marks import Horizon, TriggerMark
from mauntic_jobs.segments.members import members_statement, readings_statement
from mauntic_jobs.segments.trigger_evaluation import (
    TriggerEvaluation,
    TriggerParts,
    UnpublishedError,
    prepare,
    read_parts,
)
from mauntic_jobs.sql import statements
from mauntic_jobs.timekeeping.window import Unit, Window, naive

_sql = statements("segment_triggers")


def evaluate(context: Context[SegmentTriggerEvalOptions], window: Window) -> JobResult:
    """Evaluate every trigger now. The result is partial if one of them failed."""
    transaction, options = context.transaction, context.options
    evaluation_pass = EvaluationPass(
        transaction,
        context.settings.segments_compatibility,
        context.now,
        options.time_limit,
        context.warn,
        writes=not context.dry_run,
    )
    evaluation_pass.limit_time()
    triggers = _triggers(context)
    if not triggers:
        return _result(context, triggers, {}, 0)
    # Before anything that decides who enters is read.
    horizon = marks.read_horizon(transaction)
    outcomes = {trigger["id"]: TriggerOutcome() for trigger in triggers}
    ready = _prepare(context, triggers, horizon, outcomes)
    # A run for another hour than the last is asked for by hand, and is not the next of the hourly ones.
    moves = not context.dry_run and window == Window.before(context.now, Unit.HOUR)
    usable = _usable_marks(context, ready, horizon) if moves and not options.full else {}
    outcomes |= evaluation_pass.run(ready, usable)
    if moves:
        _move_marks(context, horizon, ready, usable, outcomes)
    return _result(context, triggers, outcomes, evaluation_pass.entered)


def _triggers(context: Context[SegmentTriggerEvalOptions]) -> list[Row]:
    options = context.options
    limits = {"organizations": options.org or None, "journeys": options.journey or None}
    triggers = context.transaction.rows(_sql["triggers"], limits | {"triggers": options.trigger or None})
    if not triggers and (options.org or options.journey or options.trigger):
        raise UsageError("No segment trigger of an active journey fits these options.")
    return triggers


def _prepare(
    context: Context[SegmentTriggerEvalOptions],
    triggers: Sequence[Row],
    horizon: Horizon,
    outcomes: dict[UUID, TriggerOutcome],
) -> list[TriggerEvaluation]:
    """Return the triggers that can be evaluated, and note of the others why they cannot."""
    parts, ready = _read_parts(context, triggers), list[TriggerEvaluation]()
    for trigger in triggers:
        try:
            # A statement is executed here only for these, and may fail.
            with context.transaction.savepoint() if parts is None or context.options.explain else nullcontext():
                ready.append(_prepared(context, trigger, horizon, parts))
        except UnpublishedError as error:
            outcomes[trigger["id"]] = TriggerOutcome(TriggerState.UNPUBLISHED, problem=str(error))
        except (JobFailedError, StatementTimeoutError) as error:
            outcomes[trigger["id"]] = TriggerOutcome(TriggerState.FAILED, problem=str(error))
    return ready


def _read_parts(context: Context[SegmentTriggerEvalOptions], triggers: Sequence[Row]) -> TriggerParts | None:
    """Return what all triggers name, or None if it cannot be read in the time for one."""
    try:
        with context.transaction.savepoint():
            return read_parts(context.transaction, triggers, context.now)
    except StatementTimeoutError:
        return None


def _prepared(
    context: Context[SegmentTriggerEvalOptions], trigger: Row, horizon: Horizon, parts: TriggerParts | None
) -> TriggerEvaluation:
    reading = context.settings.segments_compatibility
    parts = parts or read_parts(context.transaction, [trigger], context.now)
    evaluation = prepare(parts, trigger, reading, horizon.collation)
    if context.options.explain:
        _explain(context, evaluation)
    return evaluation


def _usable_marks(
    context: Context[SegmentTriggerEvalOptions], ready: Sequence[TriggerEvaluation], horizon: Horizon
) -> dict[UUID, TriggerMark]:
    """Return the marks of the triggers for which only what changed since has to be evaluated."""
    found = marks.read_marks(context.transaction, [each.trigger for each in ready])
    now = naive(context.now)
    return {
        each.trigger: found[each.trigger]
        for each in ready
        if each.trigger in found
        and not each.depends_on_time
        and marks.is_usable(found[each.trigger], horizon, each.fingerprint, each.organization, now)
    }


def _move_marks(
    context: Context[SegmentTriggerEvalOptions],
    horizon: Horizon,
    ready: Sequence[TriggerEvaluation],
    usable: dict[UUID, TriggerMark],
    outcomes: dict[UUID, TriggerOutcome],
) -> None:
    """Note up to where the triggers were evaluated; one that failed is evaluated for all contacts the next time."""
    transaction, now = context.transaction, naive(context.now)
    evaluated = [each for each in ready if outcomes[each.trigger].state is TriggerState.EVALUATED]
    full_at = [now if outcomes[each.trigger].full else usable[each.trigger].full_at for each in evaluated]
    marks.write_marks(transaction, horizon, now, evaluated, full_at)
    others = [trigger for trigger, outcome in outcomes.items() if outcome.state is not TriggerState.EVALUATED]
    marks.forget_marks(transaction, others)


def _result(
    context: Context[SegmentTriggerEvalOptions],
    triggers: Sequence[Row],
    outcomes: dict[UUID, TriggerOutcome],
    entered: int,
) -> JobResult:
    states = Counter(outcome.state for outcome in outcomes.values())
    lines = [(trigger, outcomes[trigger["id"]]) for trigger in triggers]
    return JobResult(
        counters={
            "triggers": len(triggers),
            "full": sum(outcome.full for outcome in outcomes.values()),
            "entered": entered,
            "unpublished": states[TriggerState.UNPUBLISHED],
            "failed": states[TriggerState.FAILED],
        },
        changes=[_shown(trigger, outcome) for trigger, outcome in lines] if context.dry_run else (),
        partial=states[TriggerState.FAILED] > 0,
        problems=[f"trigger {trigger['id']}: {outcome.problem}" for trigger, outcome in lines if outcome.problem],
    )


def _shown(trigger: Row, outcome: TriggerOutcome) -> Row:
    return {
        "journey": trigger["journey"],
        "trigger": trigger["id"],
        "members": outcome.members,
        "entering": outcome.entering,
        "problem": outcome.problem,
    }


def _explain(context: Context[SegmentTriggerEvalOptions], evaluation: TriggerEvaluation) -> None:
    statement, criteria = members_statement(evaluation.segment, context.settings.segments_compatibility)
    common: Row = {"segment": evaluation.segment["id"], "organization": evaluation.organization}
    plan = context.transaction.rows(b"EXPLAIN " + statement, common | criteria)
    context.warn("\n".join([statement.decode(), *(row["QUERY PLAN"] for row in plan)]))
    _explain_readings(context, evaluation.segment, common)


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
