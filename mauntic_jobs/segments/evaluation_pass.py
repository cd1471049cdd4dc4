"""One evaluation of many triggers, those of each organization together: of what changed, or of all contacts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import groupby
from uuid import UUID

from mauntic_jobs.errors import JobFailedError, StatementTimeoutError
from mauntic_jobs.job import Row, Transaction
from mauntic_jobs.segments import changes, entries
from mauntic_jobs.segments.marks import TriggerMark
from mauntic_jobs.segments.members import readings_agree
from mauntic_jobs.segments.trigger_evaluation import TriggerEvaluation, in_groups
from mauntic_jobs.settings.types import SegmentReading
from mauntic_jobs.sql import statements

# What Postgres takes.
_MAX_TIMEOUT_MILLISECONDS = 2**31 - 1

_sql = statements("segment_triggers")


class TriggerState(StrEnum):
    """How the evaluation of a trigger ended."""

    EVALUATED = "evaluated"
    UNPUBLISHED = "unpublished"
    FAILED = "failed"


@dataclass(frozen=True)
class TriggerOutcome:
    """What became of one trigger: members among the contacts that were looked at, and how many of them may enter.

    `full`: all contacts of the organization were looked at.
    """

    state: TriggerState = TriggerState.EVALUATED
    members: int = 0
    entering: int = 0
    full: bool = False
    problem: str | None = None


class EvaluationPass:
    """Evaluates triggers at the instant `now`, and lets contacts enter if it `writes`; `entered` counts those.

    `time_limit` is for each trigger of a statement. Triggers that cannot be evaluated together are evaluated one by
    one, and those that fail then are undone alone.
    """

    def __init__(
        self,
        transaction: Transaction,
        reading: SegmentReading,
        now: datetime,
        time_limit: timedelta,
        warn: Callable[[str], None],
        *,
        writes: bool,
    ) -> None:
        self.entered = 0
        self._transaction = transaction
        self._reading = reading
        self._now = now
        self._time_limit = time_limit
        self._warn = warn
        self._writes = writes
        self._outcomes: dict[UUID, TriggerOutcome] = {}

    def run(
        self, evaluations: Sequence[TriggerEvaluation], marks: Mapping[UUID, TriggerMark]
    ) -> dict[UUID, TriggerOutcome]:
        """Evaluate the triggers: those with a mark for the contacts that changed since, the others for all contacts."""
        entries.make_tables(self._transaction)
        marked = [each for each in evaluations if each.trigger in marks]
        others = [each for each in evaluations if each.trigger not in marks]
        if not self._run_changed(marked, marks):
            others = list(evaluations)
        self._run_each_organization(others, changed=False)
        return self._outcomes

    def _run_changed(self, evaluations: Sequence[TriggerEvaluation], marks: Mapping[UUID, TriggerMark]) -> bool:
        """Evaluate the contacts that changed. Return whether they could be found."""
        if not evaluations:
            return True
        self.limit_time(len(evaluations))
        try:
            with self._transaction.savepoint():
                changed = changes.find_changed(self._transaction, evaluations, marks, self._now)
        except StatementTimeoutError as error:
            self._warn(f"The contacts that changed were not found in time. All contacts are evaluated instead. {error}")
            return False
        self._outcomes |= {each.trigger: TriggerOutcome() for each in evaluations}
        self._run_each_organization([each for each in evaluations if each.organization in changed], changed=True)
        return True

    def _run_each_organization(self, evaluations: Sequence[TriggerEvaluation], *, changed: bool) -> None:
        in_order = sorted(evaluations, key=lambda each: each.organization)
        for _, own in groupby(in_order, key=lambda each: each.organization):
            for group in in_groups(list(own)):
                if not self._run_group(group, changed=changed, alone=len(group) == 1):
                    for each in group:
                        self._run_group([each], changed=changed, alone=True)

    def _run_group(self, group: Sequence[TriggerEvaluation], *, changed: bool, alone: bool) -> bool:
        """Evaluate triggers of one organization. Return whether that is done: it is not if several fail together."""
        self.limit_time(len(group))
        try:
            with self._transaction.savepoint():
                counts = entries.find_candidates(self._transaction, group, self._reading, self._now, changed=changed)
                entered = self._enter(group, counts) if self._writes else 0
                if self._writes and not changed:
                    self._count_members(group, counts)
        except (JobFailedError, StatementTimeoutError) as error:
            if alone:
                self._outcomes[group[0].trigger] = TriggerOutcome(TriggerState.FAILED, problem=str(error))
            return alone
        self.entered += entered if self._writes else sum(each.candidates for each in counts)
        for each, found in zip(group, counts, strict=True):
            self._outcomes[each.trigger] = TriggerOutcome(
                members=found.members, entering=found.candidates, full=not changed
            )
        return True

    def _enter(self, group: Sequence[TriggerEvaluation], counts: Sequence[entries.TriggerCounts]) -> int:
        return entries.enter(self._transaction, group, sum(each.candidates for each in counts), self._now)

    def _count_members(self, group: Sequence[TriggerEvaluation], counts: Sequence[entries.TriggerCounts]) -> None:
        for each, found in zip(group, counts, strict=True):
            if self._owns_count(each.segment):
                entries.count_members(self._transaction, each.segment, found.members)

    def _owns_count(self, segment: Row) -> bool:
        """Return whether the segment's contact_count may be written: not where the platform writes another number."""
        return self._reading is SegmentReading.PLATFORM or readings_agree(segment)

    def limit_time(self, triggers: int = 1) -> None:
        """Bound each of the following statements, which evaluates so many triggers."""
        limit = self._time_limit // timedelta(milliseconds=1) * triggers
        self._transaction.row(_sql["limit_time"], {"timeout": f"{min(limit, _MAX_TIMEOUT_MILLISECONDS)}"})
