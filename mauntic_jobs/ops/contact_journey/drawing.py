"""Lines of text on why a contact is in a journey or not: the verdict, then each trigger, then the executions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mauntic_jobs.ops.contact_journey.entry_rules import Block, Obstacle
from mauntic_jobs.ops.contact_journey.executions import JourneyExecution
from mauntic_jobs.ops.contact_journey.explanation import ContactExplanation, EntryVerdict, TriggerExplanation
from mauntic_jobs.ops.contact_journey.values import contact_value, criterion_value
from mauntic_jobs.ops.figures.canvas import Canvas, blank, heading, paragraph, section, table
from mauntic_jobs.ops.figures.table import Cell, id_text, time_text
from mauntic_jobs.redaction.payloads import shorten
from mauntic_jobs.redaction.printable import on_one_line
from mauntic_jobs.segments.judgement import Judgement
from mauntic_jobs.segments.trigger import SegmentTrigger
from mauntic_jobs.wording import plural

if TYPE_CHECKING:
    from rich.text import Text

# Texts of tenants are cut here unless ids are shown whole.
_CONDITION_LENGTH, _VALUE_LENGTH = 36, 20
_WHOLE_LENGTH = 1_000


def contact_lines(found: ContactExplanation, canvas: Canvas, *, reveal: bool) -> "list[Text]":
    """Return the explanation; what is personal of the contact is masked unless `reveal` is set."""
    lines = [
        *heading(f"Contact {found.contact_id}"),
        *paragraph(f"Journey {found.journey_id}: {on_one_line(found.journey)} ({found.journey_status})."),
        *paragraph(f"Organization {found.organization_id}."),
        *blank(),
        *paragraph(_verdict(found)),
        *_look_now(found),
    ]
    if found.next_run.pause is not None:
        lines += paragraph(f"The job is {found.next_run.pause}.")
    for trigger in found.triggers:
        lines += _trigger(trigger, found.reading, canvas, reveal=reveal)
    return [*lines, *_executions(found.executions, canvas)]


def _verdict(found: ContactExplanation) -> str:
    best = next((each for each in found.triggers if each.verdict is found.verdict), None)
    run = f"the run of {time_text(found.next_run.at)} UTC"
    if best is None:
        return "No run lets it in: the journey has no segment trigger."
    if best.verdict is EntryVerdict.LATER:
        return (
            f"It may enter, but {run} does not look at it: nothing of it has changed since the last run. The first run "
            f"after {time_text(best.full_at)} UTC looks at all contacts, and lets it in. To look at all of them now:"
        )
    reasons = "; ".join(_block(each, best.config) for each in best.blocks if best.config)
    segments = "the segment" if len(found.triggers) == 1 else "a segment of the journey"
    return {
        EntryVerdict.ENTERS: f"It may enter: as things stand, {run} lets it in.",
        EntryVerdict.BLOCKED: f"It stays out in {run}: it is in the segment, but {reasons}.",
        EntryVerdict.NO_MEMBER: f"It stays out in {run}: it is not in {segments}.",
        EntryVerdict.UNUSABLE: f"It stays out in {run}: no trigger of the journey can be evaluated.",
        EntryVerdict.NOT_ACTIVE: f"It stays out: the journey is {found.journey_status}, and runs look at active ones.",
    }[best.verdict]


def _look_now(found: ContactExplanation) -> "list[Text]":
    from rich.text import Text

    command = f"    mauntic-jobs segment-trigger-eval --journey {found.journey_id} --full"
    return [Text(command)] if found.verdict is EntryVerdict.LATER else []


def _trigger(found: TriggerExplanation, reading: str, canvas: Canvas, *, reveal: bool) -> "list[Text]":
    lines = section(f"Trigger {id_text(found.trigger_id, whole=canvas.ids_whole)}: {found.verdict}")
    if found.problem is not None:
        return [*lines, *paragraph(f"It cannot be evaluated: {on_one_line(found.problem)}.")]
    lines += paragraph(f"Segment {found.segment_id}: {on_one_line(found.segment or '')} ({found.segment_type}).")
    if found.judgement is not None:
        lines += paragraph(_membership(found, found.judgement))
        lines += _conditions(found.judgement, canvas, reveal=reveal)
        if found.judgement.conditions:
            lines += paragraph(f"Criteria are read by the {reading} reading.")
    if found.config is not None:
        lines += paragraph(f"Entry: {_rules(found.config)}.")
        for block in found.blocks:
            lines += paragraph(f"Blocked: {_block(block, found.config)}.")
    return lines


def _membership(found: TriggerExplanation, judgement: Judgement) -> str:
    where = "In the segment" if judgement.is_member else "Not in the segment"
    if found.segment_type == "static":
        since = f" since {time_text(found.added_at)} UTC" if found.added_at else ""
        return f"{where}: the contact is {f'on its list{since}' if judgement.is_member else 'not on its list'}."
    number = len(judgement.conditions)
    if not number:
        return f"{where}: it has no conditions, so every contact of the organization is."
    held = sum(each.holds for each in judgement.conditions)
    wanted = "all" if judgement.joint == "and" else "one"
    return (
        f"{where}: of {plural(number, 'condition')} {wanted} must hold, and {held:,} {'does' if held == 1 else 'do'}."
    )


def _conditions(judgement: Judgement, canvas: Canvas, *, reveal: bool) -> "list[Text]":
    rows: list[list[Cell]] = []
    for each in judgement.conditions:
        named = f"{each.condition.field} {each.condition.operator}"
        wanted = criterion_value(each, reveal=reveal)
        text = named if wanted is None else f"{named} {shorten(wanted, _WHOLE_LENGTH)}"
        value = contact_value(each, reveal=reveal)
        rows.append(
            [
                _cut(text, _CONDITION_LENGTH, canvas),
                "(empty)" if value == "" else None if value is None else _cut(value, _VALUE_LENGTH, canvas),
                each.answer.value,
                "yes" if each.holds else "no",
            ]
        )
    return table(["condition", "contact has", "answer", "holds"], rows) if rows else []


def _cut(text: str, length: int, canvas: Canvas) -> str:
    return shorten(text, _WHOLE_LENGTH if canvas.ids_whole else length)


def _rules(config: SegmentTrigger) -> str:
    days, cap = config.re_entry.cooldown_days, config.frequency_cap
    again = {"once": "once only", "always": "as often as it likes"}.get(
        config.re_entry.type, f"again {plural(days or 0, 'day')} after it last entered"
    )
    if cap is None:
        return again
    return f"{again}, and at most {plural(cap.max_count, 'time')} within {plural(cap.window_days, 'day')}"


def _block(block: Block, config: SegmentTrigger) -> str:
    since = "" if block.since is None else f" at {time_text(block.since)} UTC"
    until = "" if block.until is None else f" until {time_text(block.until)} UTC"
    match block.obstacle:
        case Obstacle.ACTIVE:
            return f"it is in the journey: it entered{since}, and execution {block.execution} is active"
        case Obstacle.ONCE:
            return f"it entered{since}, and may enter once only"
        case Obstacle.COOLDOWN:
            days = plural(config.re_entry.cooldown_days or 0, "day")
            return f"it entered{since}, and its cooldown of {days} lasts{until}"
        case _:
            cap = config.frequency_cap
            days = plural(cap.window_days if cap else 0, "day")
            return f"it entered {plural(block.entries or 0, 'time')} within {days}, as often as it may{until}"


def _executions(executions: Sequence[JourneyExecution], canvas: Canvas) -> "list[Text]":
    lines = section("Executions, the latest first")
    if not executions:
        return [*lines, *paragraph("It has never been in the journey.")]
    rows: list[list[Cell]] = [
        [
            id_text(each.execution_id, whole=canvas.ids_whole),
            each.status,
            time_text(each.entered_at),
            time_text(each.ended_at),
            None if each.version is None else str(each.version),
            None if each.run is None else str(each.run),
        ]
        for each in executions
    ]
    lines += table(["execution", "status", "entered at", "ended at", "version", "by run"], rows)
    for each in executions:
        lines += _steps(each, canvas)
    return lines


def _steps(execution: JourneyExecution, canvas: Canvas) -> "list[Text]":
    short = id_text(execution.execution_id, whole=canvas.ids_whole)
    if not execution.steps:
        waits = _waits(execution) if execution.status == "active" else ""
        return [*blank(), *paragraph(f"Execution {short} has no steps{waits}.")]
    rows: list[list[Cell]] = [
        [
            id_text(each.step_id, whole=canvas.ids_whole),
            each.type,
            each.status,
            time_text(each.started_at),
            time_text(each.ended_at),
        ]
        for each in execution.steps
    ]
    lines = [*section(f"Steps of execution {short}")]
    lines += table(["step", "type", "status", "began at", "ended at"], rows)
    for each in execution.steps:
        if each.error is not None:
            lines += paragraph(f"Step {id_text(each.step_id, whole=canvas.ids_whole)}: {on_one_line(each.error)}")
    return lines


def _waits(execution: JourneyExecution) -> str:
    if not execution.announced:
        return ": its executor has not begun it"
    if execution.asked_at is None:
        return ": `mauntic-jobs outbox publish` asks its executor to begin it, as soon as its queue has room"
    return f": its executor was asked at {time_text(execution.asked_at)} UTC, and has not begun it"
