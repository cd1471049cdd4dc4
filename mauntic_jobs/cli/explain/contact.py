"""`explain contact`: why a contact is in a journey or not, and what the next run does."""

from dataclasses import asdict
from typing import Annotated
from uuid import UUID

import typer

from mauntic_jobs.cli.documents.contact_journey import ContactExplanationJson
from mauntic_jobs.cli.framework.command import JsonOutput, command
from mauntic_jobs.cli.framework.options import Limit, Wide
from mauntic_jobs.cli.framework.output import print_json
from mauntic_jobs.cli.show.output import canvas, print_drawing
from mauntic_jobs.installation import Installation
from mauntic_jobs.jobs.segment_trigger_eval import SEGMENT_TRIGGER_EVAL
from mauntic_jobs.ops.contact_journey.drawing import contact_lines
from mauntic_jobs.ops.contact_journey.explanation import ContactExplanation, TriggerExplanation, explain_contact
from mauntic_jobs.ops.contact_journey.next_run import read_next_run
from mauntic_jobs.ops.contact_journey.values import contact_value, criterion_value
from mauntic_jobs.segments.judgement import JudgedCondition
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.timekeeping import clock


def register_contact(app: typer.Typer) -> None:
    """Add the command to the group `explain`."""
    contact, journey = "3f0c2d34-7f0b-4f6e-9c36-0a3c8f1f1b10", "5f0c2d34-7f0b-4f6e-9c36-0a3c8f1f1b10"
    example = f"mauntic-jobs explain contact {contact} --journey {journey}"
    command(app, "contact", example=example, prints=ContactExplanationJson)(explain_one_contact)


def explain_one_contact(
    settings: Settings,
    contact: Annotated[UUID, typer.Argument(metavar="ID", help="The contact's id.")],
    *,
    journey: Annotated[UUID, typer.Option("--journey", metavar="ID", help="The journey.")],
    reveal: Annotated[bool, typer.Option("--reveal", help="Show the contact's values as they are.")] = False,
    limit: Limit = 5,
    wide: Wide = False,
    json: JsonOutput = False,
) -> None:
    """Show why a contact is in a journey or not: segment, entry rules, the next run, and executions step by step."""
    now = clock.now()
    with Installation(settings, now, [SEGMENT_TRIGGER_EVAL.configured(settings)]) as installation:
        next_run = read_next_run(installation)
        found = explain_contact(installation.session, settings, contact, journey, now, next_run, limit)
    if json:
        print_json(_document(found, reveal=reveal))
    else:
        print_drawing(contact_lines(found, canvas(wide=wide), reveal=reveal))


def _document(found: ContactExplanation, *, reveal: bool) -> dict[str, object]:
    return {
        **asdict(found),
        "next_run": found.next_run.at,
        "pause": found.next_run.pause,
        "verdict": found.verdict,
        "triggers": [_trigger(each, reveal=reveal) for each in found.triggers],
    }


def _trigger(found: TriggerExplanation, *, reveal: bool) -> dict[str, object]:
    own = asdict(found)
    config, judgement = found.config, found.judgement
    cap = None if config is None else config.frequency_cap
    del own["config"], own["judgement"]
    return {
        **own,
        "is_member": None if judgement is None else judgement.is_member,
        "joint": None if judgement is None else judgement.joint,
        "conditions": [] if judgement is None else [_condition(each, reveal=reveal) for each in judgement.conditions],
        "re_entry": None if config is None else config.re_entry.type,
        "cooldown_days": None if config is None else config.re_entry.cooldown_days,
        "cap_max_count": None if cap is None else cap.max_count,
        "cap_window_days": None if cap is None else cap.window_days,
        "blocks": [each._asdict() for each in found.blocks],
        "free_at": found.free_at,
    }


def _condition(judged: JudgedCondition, *, reveal: bool) -> dict[str, object]:
    return {
        "field": judged.condition.field,
        "operator": judged.condition.operator.value,
        "value": criterion_value(judged, reveal=reveal),
        "contact_value": contact_value(judged, reveal=reveal),
        "answer": judged.answer,
        "holds": judged.holds,
    }
