"""One look at all queues: how they stand, what is over its threshold, and which errors those queues hold."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from mauntic_jobs.ops.dead_letters.box import Box, Selection
from mauntic_jobs.ops.dead_letters.failed_runs import failed_runs
from mauntic_jobs.ops.dead_letters.failed_set import count_failed
from mauntic_jobs.ops.dead_letters.groups import Group, grouped
from mauntic_jobs.ops.dead_letters.letter import RUNS
from mauntic_jobs.ops.dead_letters.watch import Finding, Standing, Thresholds, evaluate

# Of one queue, the latest first: a look is taken every minute.
_MOST_READ = 50_000


@dataclass(frozen=True)
class Look:
    """What was seen. `groups` are those of the queues with a finding, by queue; the others are not read."""

    standings: Sequence[Standing]
    findings: Sequence[Finding]
    groups: dict[str, list[Group]] = field(default_factory=dict)


def look(box: Box, thresholds: Thresholds) -> Look:
    """Count the dead letters of every queue and of the ledger, and read them where there are too many."""
    standings = [*_of_queues(box, thresholds), _of_runs(box, thresholds)]
    findings = evaluate(standings, thresholds, box.now)
    over = dict.fromkeys(finding.queue for finding in findings)
    return Look(standings, findings, {queue: _kinds(box, queue, thresholds) for queue in over})


def _kinds(box: Box, queue: str, thresholds: Thresholds) -> list[Group]:
    letters = box.letters(Selection(queues=[queue]), newest_first=True)
    return grouped(islice(letters, _MOST_READ), box.now - thresholds.window)


def _of_queues(box: Box, thresholds: Thresholds) -> list[Standing]:
    queues = box.queues()
    counts = count_failed(box.redis, [queue.base for queue in queues], box.now - thresholds.window)
    return [Standing(queue.name, *count) for queue, count in zip(queues, counts, strict=True)]


def _of_runs(box: Box, thresholds: Thresholds) -> Standing:
    runs = failed_runs(box.session, box.settings, None, box.now)
    recent = sum(run.age(box.now) < thresholds.window for run in runs)
    return Standing(RUNS, len(runs), recent, runs[0].failed_at if runs else None)
