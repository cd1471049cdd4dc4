"""Explanation of why a contact is in a journey or not, by the statements of the job that lets contacts enter."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from mauntic_jobs.errors import JobFailedError, UsageError
from mauntic_jobs.job import Row
from mauntic_jobs.jobs.segment_trigger_eval import SEGMENT_TRIGGER_EVAL
from mauntic_jobs.ops.contact_journey.entry_rules import Block, ends_of, instant, read_blocks
from mauntic_jobs.ops.contact_journey.executions import JourneyExecution, read_executions
from mauntic_jobs.ops.contact_journey.next_run import NextRun
from mauntic_jobs.segments import changes, marks
from mauntic_jobs.segments.judgement import Judgement, judge
from mauntic_jobs.segments.trigger import SegmentTrigger
from mauntic_jobs.segments.trigger_evaluation import TriggerEvaluation, UnpublishedError, prepare, read_parts
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits, Session
from mauntic_jobs.timekeeping.window import naive

_ACTIVE = "active"

_sql = statements("contact_journey")


class EntryVerdict(StrEnum):
    """What the next run does with the contact, the best first: of several triggers one is enough to enter."""

    ENTERS = "enters"
    LATER = "enters later"
    BLOCKED = "blocked"
    NO_MEMBER = "no member"
    UNUSABLE = "cannot be evaluated"
    NOT_ACTIVE = "journey not active"
    NO_TRIGGER = "no segment trigger"


@dataclass(frozen=True)
class TriggerExplanation:
    """What a trigger does with the contact at the next run, as far as it can be evaluated.

    `problem` is why it cannot. `added_at` is when the contact was put on the list of a static segment. A contact that
    enters later has not changed since the last run, and the next one does not look at all contacts: `full_at` is when
    all are due to be looked at.
    """

    trigger_id: UUID
    verdict: EntryVerdict
    problem: str | None = None
    segment_id: UUID | None = None
    segment: str | None = None
    segment_type: str | None = None
    added_at: datetime | None = None
    config: SegmentTrigger | None = None
    judgement: Judgement | None = None
    blocks: Sequence[Block] = ()
    full_at: datetime | None = None

    @property
    def free_at(self) -> datetime | None:
        """When a member that is blocked may enter by itself; None if that is not known."""
        return ends_of(self.blocks)


@dataclass(frozen=True)
class ContactExplanation:
    """A contact and a journey of its organization, as things stand at `at`; `next_run` is that of the job."""

    contact_id: UUID
    organization_id: UUID
    journey_id: UUID
    journey: str
    journey_status: str
    at: datetime
    next_run: NextRun
    reading: str
    triggers: Sequence[TriggerExplanation] = field(default_factory=list)
    executions: Sequence[JourneyExecution] = field(default_factory=list)

    @property
    def verdict(self) -> EntryVerdict:
        """What the next run does with the contact."""
        order = list(EntryVerdict)
        return min((each.verdict for each in self.triggers), key=order.index, default=EntryVerdict.NO_TRIGGER)


def explain_contact(
    session: Session, settings: Settings, contact: UUID, journey: UUID, now: datetime, next_run: NextRun, limit: int
) -> ContactExplanation:
    """Return why a contact is in a journey or not, with at most `limit` executions; nothing is written.

    Raises UsageError for a journey or a contact that is unknown, or of another organization than the journey.
    """
    with session.look(Limits("mauntic-jobs explain", settings.statement_timeout)):
        rows = session.rows(_sql["journey"], {"journey": journey})
        if not rows:
            raise UsageError(f"No journey {journey}. Check --journey.")
        own = {"contact": contact, "journey": journey, "organization": rows[0]["organization_id"]}
        if session.row(_sql["unknown_contact"], own)["unknown"]:
            raise UsageError(
                f"Organization {own['organization']}, whose journey it is, has no contact {contact}. Check both ids; "
                "or the contact was deleted."
            )
        active = rows[0]["status"] == _ACTIVE
        return ContactExplanation(
            contact_id=contact,
            organization_id=own["organization"],
            journey_id=journey,
            journey=rows[0]["name"],
            journey_status=rows[0]["status"],
            at=now,
            next_run=next_run,
            reading=settings.segments_compatibility.value,
            triggers=explain_triggers(session, settings, own, next_run.at, active=active),
            executions=read_executions(
                session, SEGMENT_TRIGGER_EVAL.name, own["organization"], journey, contact, limit
            ),
        )


def explain_triggers(
    session: Session, settings: Settings, own: Row, at: datetime, *, active: bool
) -> list[TriggerExplanation]:
    """Return what each trigger of a journey does with a contact in a run at the instant `at`, in a transaction.

    `own` names the contact, the journey and the organization of both; `active`: the journey is.
    """
    horizon = marks.read_horizon(session)
    found = []
    for trigger in session.rows(_sql["triggers"], own):
        try:
            with session.savepoint():
                evaluation = prepare(
                    read_parts(session, [trigger], at), trigger, settings.segments_compatibility, horizon.collation
                )
                found.append(_TriggerCase(session, settings, evaluation, own, at, horizon).explanation(active=active))
        except (UnpublishedError, JobFailedError) as error:
            verdict = EntryVerdict.UNUSABLE if active else EntryVerdict.NOT_ACTIVE
            found.append(TriggerExplanation(trigger["id"], verdict, problem=str(error)))
    return found


@dataclass(frozen=True)
class _TriggerCase:
    """A contact, and a trigger that can be evaluated, at the instant of the next run."""

    session: Session
    settings: Settings
    evaluation: TriggerEvaluation
    own: Row
    at: datetime
    horizon: marks.Horizon

    def explanation(self, *, active: bool) -> TriggerExplanation:
        """Return what the run does with the contact. Raises JobFailedError if the criteria cannot be used."""
        evaluation, contact = self.evaluation, self.own["contact"]
        segment = evaluation.segment
        named = self.session.row(_sql["segment"], {**self.own, "segment": segment["id"]})
        judgement = judge(self.session, segment, self.settings.segments_compatibility, contact)
        blocks = read_blocks(self.session, evaluation, contact, self.at)
        verdict = self._verdict(judgement, blocks) if active else EntryVerdict.NOT_ACTIVE
        return TriggerExplanation(
            trigger_id=evaluation.trigger,
            verdict=verdict,
            segment_id=segment["id"],
            segment=named["name"],
            segment_type=segment["type"],
            added_at=instant(named["added_at"]),
            config=evaluation.config,
            judgement=judgement,
            blocks=blocks,
            full_at=self._full_at() if verdict is EntryVerdict.LATER else None,
        )

    def _verdict(self, judgement: Judgement | None, blocks: Sequence[Block]) -> EntryVerdict:
        if judgement is None or not judgement.is_member:
            return EntryVerdict.NO_MEMBER
        if blocks:
            return EntryVerdict.BLOCKED
        return EntryVerdict.ENTERS if self._is_looked_at() else EntryVerdict.LATER

    def _is_looked_at(self) -> bool:
        """Return whether the run looks at the contact for this trigger, or at all contacts."""
        evaluation, now = self.evaluation, naive(self.at)
        mark = marks.read_marks(self.session, [evaluation.trigger]).get(evaluation.trigger)
        usable = (
            mark is not None
            and not evaluation.depends_on_time
            and marks.is_usable(mark, self.horizon, evaluation.fingerprint, evaluation.organization, now)
        )
        if mark is None or not usable:
            return True
        return changes.is_changed(self.session, evaluation, mark, self.at, self.own["contact"])

    def _full_at(self) -> datetime:
        due = marks.latest_full_time(self.evaluation.organization, naive(self.at)) + timedelta(days=1)
        return due.replace(tzinfo=UTC)
