"""JSON of why a contact is in a journey or not."""

from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime
from typing_extensions import TypedDict

from mauntic_jobs.ops.contact_journey.entry_rules import Obstacle
from mauntic_jobs.ops.contact_journey.explanation import EntryVerdict
from mauntic_jobs.segments.judgement import ConditionAnswer

Compared = bool | int | float | str


class JudgedConditionJson(TypedDict):
    """One condition of the segment's criteria, with what the contact has as text, null for nothing.

    `answer` is unknown where the contact has no value, or one that cannot be compared; `holds` is what it counts as.
    Personal values are masked unless --reveal is given.
    """

    field: str
    operator: str
    value: Compared | list[Compared] | None
    contact_value: str | None
    answer: ConditionAnswer
    holds: bool


class EntryBlockJson(TypedDict):
    """Something that keeps a member out, `until` a time; null: for ever, or until an execution ends.

    `since` is when the contact entered: with the active `execution`, or last; for a frequency cap, with the first of
    the `entries` that count.
    """

    obstacle: Obstacle
    since: AwareDatetime | None
    until: AwareDatetime | None
    execution: UUID | None
    entries: int | None


class TriggerExplanationJson(TypedDict):
    """One trigger of the journey. `verdict` is what the next run does by it; `problem` is why it cannot be evaluated.

    `joint` says how many conditions must hold: `and` is all, `or` is any, null is a static segment, on whose list the
    contact is since `added_at`. `free_at` is when the blocks end by themselves. A contact that enters later is looked
    at by the first run after `full_at`.
    """

    trigger_id: UUID
    verdict: EntryVerdict
    problem: str | None
    segment_id: UUID | None
    segment: str | None
    segment_type: str | None
    added_at: AwareDatetime | None
    is_member: bool | None
    joint: Literal["and", "or"] | None
    conditions: list[JudgedConditionJson]
    re_entry: Literal["once", "always", "cooldown"] | None
    cooldown_days: int | None
    cap_max_count: int | None
    cap_window_days: int | None
    blocks: list[EntryBlockJson]
    free_at: AwareDatetime | None
    full_at: AwareDatetime | None


class ExecutedStepJson(TypedDict):
    """A step of an execution. `error` is masked."""

    step_id: UUID
    type: str | None
    status: str
    started_at: AwareDatetime | None
    ended_at: AwareDatetime | None
    error: str | None


class JourneyExecutionJson(TypedDict):
    """An execution: `run` let the contact in, null for another program or a record that was pruned.

    `announced`: the outbox has the request to begin it, which was put on the executor's queue at `asked_at`.
    """

    execution_id: UUID
    status: str
    entered_at: AwareDatetime | None
    ended_at: AwareDatetime | None
    version: int | None
    run: int | None
    current_step_id: UUID | None
    announced: bool
    asked_at: AwareDatetime | None
    steps: list[ExecutedStepJson]


class ContactExplanationJson(TypedDict):
    """Why a contact is in a journey or not, as things stand at `at`.

    `verdict` is what the job's `next_run` does with the contact, by its schedule; `pause` is what that waits for, if
    the job is paused. `reading` is how criteria are read.
    """

    contact_id: UUID
    organization_id: UUID
    journey_id: UUID
    journey: str
    journey_status: str
    at: AwareDatetime
    next_run: AwareDatetime
    pause: str | None
    verdict: EntryVerdict
    reading: Literal["strict", "platform"]
    triggers: list[TriggerExplanationJson]
    executions: list[JourneyExecutionJson]
