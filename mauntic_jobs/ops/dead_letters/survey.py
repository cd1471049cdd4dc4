"""Looks at dead letters: how queues stand, what is over its threshold, and which errors those queues hold."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from mauntic_jobs.errors import ConfigurationError, UsageError
from mauntic_jobs.ops.dead_letters.dead_letter import RUNS
from mauntic_jobs.ops.dead_letters.failed_runs import failed_runs
from mauntic_jobs.ops.dead_letters.failed_set import count_failed
from mauntic_jobs.ops.dead_letters.filter.parser import Where, parse_where
from mauntic_jobs.ops.dead_letters.grouping import Group, grouped
from mauntic_jobs.ops.dead_letters.recipients import about_recipients
from mauntic_jobs.ops.dead_letters.store import DeadLetters, Selection
from mauntic_jobs.ops.dead_letters.thresholds import Breach, QueueStanding, evaluate
from mauntic_jobs.settings.types import DeadLetterLimits

# Of one queue, the latest first: a look is taken every minute.
_MAX_READ = 50_000


@dataclass(frozen=True)
class Look:
    """What was seen. `groups` are those of the queues with a finding, by queue; the others are not read.

    `condition` is the text of the condition on letters, if there was one.
    """

    standings: Sequence[QueueStanding]
    findings: Sequence[Breach]
    groups: dict[str, list[Group]] = field(default_factory=dict)
    condition: str | None = None


def look_at_letters(box: DeadLetters, limits: DeadLetterLimits, *, of_runs: bool) -> Look:
    """Count the dead letters of every queue, or the failed runs of the ledger, and read them where there are too many.

    Letters about their recipients are counted apart: they are never too many. Nothing is asked of Redis about runs.
    Raises ConfigurationError for a condition that cannot be read.
    """
    where = _condition(limits)
    standings, groups = [], {}
    for standing in [_of_runs(box, limits)] if of_runs else _of_queues(box, limits):
        if standing.depth and (where is not None or evaluate([standing], limits, box.now)):
            kinds = _kinds(box, standing.queue, limits, where)
            standing, groups[standing.queue] = _judged(box, standing, kinds)  # noqa: PLW2901 - the same, more exactly
        standings.append(standing)
    findings = evaluate(standings, limits, box.now)
    over = dict.fromkeys(finding.queue for finding in findings)
    return Look(standings, findings, {queue: groups[queue] for queue in over}, limits.where)


def _condition(limits: DeadLetterLimits) -> Where | None:
    try:
        return None if limits.where is None else parse_where(limits.where)
    except UsageError as error:
        raise ConfigurationError(f"The setting dead_letters cannot be used: {error}") from None


def _kinds(box: DeadLetters, queue: str, limits: DeadLetterLimits, where: Where | None) -> list[Group]:
    letters = box.letters(Selection(queues=[queue], where=where), newest_first=True)
    return grouped(islice(letters, _MAX_READ), box.now - limits.window)


def _judged(box: DeadLetters, standing: QueueStanding, kinds: Sequence[Group]) -> tuple[QueueStanding, list[Group]]:
    """Return how a queue stands without the letters about their recipients, and the kinds of the others."""
    known = about_recipients(box, kinds)
    others = [group for group in kinds if (group.queue, group.fingerprint) not in known]
    judged = replace(
        standing,
        depth=sum(group.count for group in others),
        growth=sum(group.recent for group in others),
        oldest=min((group.first for group in others), default=None),
        recipients=sum(group.count for group in kinds) - sum(group.count for group in others),
    )
    return judged, others


def _of_queues(box: DeadLetters, limits: DeadLetterLimits) -> list[QueueStanding]:
    queues = box.queues()
    counts = count_failed(box.redis, [queue.base for queue in queues], box.now - limits.window)
    return [QueueStanding(queue.name, *count) for queue, count in zip(queues, counts, strict=True)]


def _of_runs(box: DeadLetters, limits: DeadLetterLimits) -> QueueStanding:
    runs = failed_runs(box.session, box.settings, None, box.now)
    recent = sum(run.age(box.now) < limits.window for run in runs)
    return QueueStanding(RUNS, len(runs), recent, runs[0].failed_at if runs else None)
