"""In every history a contact enters a journey exactly if the explanation says so."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cached_property
from uuid import UUID

from mauntic_jobs.ops.contact_journey.explanation import EntryVerdict, TriggerExplanation, explain_triggers
from mauntic_jobs.settings.settings import Settings
from tests.jobs.segment_history import History, played

_ENTERING = {EntryVerdict.ENTERS, EntryVerdict.LATER}


class ExplainedHistory(History):
    """A history in which each contact is explained before each pass; executions are deleted, too.

    `ends` counts the blocks whose end was looked at.
    """

    ends = 0

    @cached_property
    def verdicts(self) -> Counter[EntryVerdict]:
        """How often each was said of a contact and a journey."""
        return Counter()

    def _steps(self) -> list[Callable[[], None]]:
        return [*super()._steps(), self._delete_executions, self._delete_executions]

    def _delete_executions(self) -> None:
        """Delete what keeps contacts out, which leaves no trace; then an hour passes."""
        locked = set().union(*(writer.locked for writer in self._late))
        self._plain.execute(
            "DELETE FROM journey.journey_executions WHERE organization_id = %(own)s AND contact_id <> ALL (%(locked)s)",
            {"own": self._organization, "locked": list(locked)},
        )
        self._now += timedelta(hours=1)
        self._pass()

    def _pass(self) -> None:
        with self._session.transaction():
            said, before = self._explained(), self._executions()
            counters = self._run_job()
            entered = {
                (row["journey_id"], row["contact_id"])
                for execution, row in self._executions().items()
                if execution not in before
            }
        evaluated = counters["triggers"] - counters["unpublished"] - counters["failed"]
        for pair, verdict in said.items():
            if verdict is not EntryVerdict.LATER or counters["full"] == evaluated:
                assert (pair in entered) == (verdict in _ENTERING), (pair, verdict)
        assert entered <= {pair for pair, verdict in said.items() if verdict in _ENTERING}
        self.verdicts.update(said.values())
        self.passes += 1

    def _explained(self) -> dict[tuple[UUID, UUID], EntryVerdict]:
        contacts = b"SELECT id FROM crm.contacts WHERE organization_id = %(own)s"
        journeys = b"SELECT id, status FROM journey.journeys WHERE organization_id = %(own)s"
        own = {"own": self._organization}
        return {
            (journey["id"], contact["id"]): self._verdict(journey["id"], contact["id"], journey["status"] == "active")
            for journey in self._session.rows(journeys, own)
            for contact in self._session.rows(contacts, own)
        }

    def _verdict(self, journey: UUID, contact: UUID, active: bool) -> EntryVerdict:
        found = self._triggers_at(journey, contact, active, self._now)
        for number, each in enumerate(found):
            assert each.judgement is None or each.judgement.joint is None or _agrees(each)
            if each.free_at is not None:
                just_before = self._triggers_at(journey, contact, active, each.free_at - timedelta(microseconds=1))
                assert just_before[number].blocks
                assert not self._triggers_at(journey, contact, active, each.free_at)[number].blocks
                self.ends += 1
        return min((each.verdict for each in found), key=list(EntryVerdict).index, default=EntryVerdict.NO_TRIGGER)

    def _triggers_at(self, journey: UUID, contact: UUID, active: bool, at: datetime) -> list[TriggerExplanation]:
        own = {"journey": journey, "contact": contact, "organization": self._organization}
        return explain_triggers(self._session, self._settings, own, at, active=active)


def _agrees(found: TriggerExplanation) -> bool:
    """Return whether the answers to the conditions make what is said of the contact as a whole."""
    assert found.judgement is not None
    answers = [each.holds for each in found.judgement.conditions]
    joint = all(answers) if found.judgement.joint == "and" or not answers else any(answers)
    return joint == found.judgement.is_member


def test_a_contact_enters_exactly_if_the_explanation_says_so(direct_settings: Settings) -> None:
    """More by hand: SEGMENT_HISTORIES=10000 scripts/test tests/ops/contact_journey/test_agreement.py."""
    verdicts, ends = Counter[EntryVerdict](), 0
    for history in played(ExplainedHistory, direct_settings, 40):
        verdicts.update(history.verdicts)
        ends += history.ends
    # The histories do say something.
    assert set(verdicts) == set(EntryVerdict)
    assert ends > 0
