"""Thresholds of dead letters, on both sides of each."""

from datetime import timedelta

import pytest

from mauntic_jobs.ops.dead_letters.thresholds import Measure, Standing, Thresholds, evaluate
from tests.support import utc

NOW = utc("2026-11-05T10:00")


@pytest.mark.parametrize(
    ("standing", "measures"),
    [
        (Standing("q", 100, 20, NOW - timedelta(hours=24)), []),
        (Standing("q", 101, 20, NOW - timedelta(hours=24)), [Measure.DEPTH]),
        (Standing("q", 100, 21, NOW - timedelta(hours=24)), [Measure.GROWTH]),
        (Standing("q", 1, 0, NOW - timedelta(hours=24, seconds=1)), [Measure.AGE]),
        (Standing("q", 500, 400, NOW - timedelta(days=9)), [Measure.DEPTH, Measure.GROWTH, Measure.AGE]),
        (Standing("q", 0, 0, None), []),
    ],
)
def test_a_queue_is_over_a_threshold_when_it_passes_it(standing: Standing, measures: list[Measure]) -> None:
    assert [finding.measure for finding in evaluate([standing], Thresholds(), NOW)] == measures
