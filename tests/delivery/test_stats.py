"""Numbers of delivering processes, and the health that follows from them."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from mauntic_jobs.cli.deliver.commands import _health
from mauntic_jobs.delivery.stats import BUCKETS, ChannelStats, merged


def test_numbers_of_several_processes_add_up() -> None:
    one, other = ChannelStats(moved=1.0), ChannelStats(moved=2.0)
    one.settle("sent", 0.003)
    other.settle("sent", 0.2)
    other.settle("failed", 100)
    both = merged([{"email": one}, {"email": other}])["email"]
    assert both.settled == {"sent": 2, "failed": 1}
    assert sum(both.seconds) == 3
    assert (both.quantile(0.3), both.quantile(0.5), both.quantile(1)) == (BUCKETS[0], 0.25, BUCKETS[-1])


@pytest.mark.parametrize(
    ("numbers", "trouble", "is_well"),
    [
        ({"queue": {"waiting": 0, "delayed": 9}}, None, True),
        ({"queue": {"waiting": 1}}, None, False),
        ({"queue": {"prioritized": 1}}, None, False),
        ({"active": 1}, None, False),
        ({"queue": {"waiting": 1}, "moved": math.inf}, None, True),
        ({"queue": {"waiting": 1}}, "Postgres is away", True),
        ({"queue": {"waiting": 0, "paused": 5}}, None, True),
    ],
)
def test_a_process_is_dead_when_nothing_moves_though_jobs_wait(
    numbers: dict[str, Any], trouble: str | None, is_well: bool
) -> None:
    stats = {"email": ChannelStats(**{"moved": -math.inf, **numbers})}
    well, details = _health(SimpleNamespace(stats=stats, trouble=trouble))()  # type: ignore[arg-type]  # what it asks for
    assert well is is_well
    assert (details["stuck"] == []) is (is_well and trouble is None)
