"""Thresholds of dead letters, on both sides of each."""

from datetime import timedelta

import pytest

from mauntic_jobs.ops.dead_letters.thresholds import Measure, QueueStanding, evaluate
from mauntic_jobs.settings.types import DeadLetterLimits
from tests.support import utc

NOW = utc("2026-11-05T10:00")


@pytest.mark.parametrize(
    ("standing", "measures"),
    [
        (QueueStanding("q", 100, 20, NOW - timedelta(hours=24)), []),
        (QueueStanding("q", 101, 20, NOW - timedelta(hours=24)), [Measure.DEPTH]),
        (QueueStanding("q", 100, 21, NOW - timedelta(hours=24)), [Measure.GROWTH]),
        (QueueStanding("q", 1, 0, NOW - timedelta(hours=24, seconds=1)), [Measure.AGE]),
        (QueueStanding("q", 500, 400, NOW - timedelta(days=9)), [Measure.DEPTH, Measure.GROWTH, Measure.AGE]),
        (QueueStanding("q", 0, 0, None), []),
    ],
)
def test_a_queue_is_over_a_threshold_when_it_passes_it(standing: QueueStanding, measures: list[Measure]) -> None:
    assert [finding.measure for finding in evaluate([standing], DeadLetterLimits(), NOW)] == measures
