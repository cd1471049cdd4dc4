"""A mark is used only where what changed since is all that has to be evaluated."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from mauntic_jobs.segments.marks import Horizon, TriggerMark, is_usable, latest_full_time
from mauntic_jobs.segments.trigger import parse_trigger
from mauntic_jobs.segments.trigger_evaluation import TriggerEvaluation, in_groups
from mauntic_jobs.timekeeping.window import naive
from tests.support import utc

NOW = naive(utc("2026-10-05T10:00:00"))
HORIZON = Horizon(horizon=5_000_000_000, next=5_000_000_100, store="here", collation="C")
MARK = TriggerMark("here", 4_999_999_000, "same", NOW - timedelta(hours=1), NOW - timedelta(hours=2))
NOON_ORGANIZATION = UUID(int=12 * 3600)


def _is_usable(mark: TriggerMark = MARK, now: datetime = NOW, horizon: Horizon = HORIZON) -> bool:
    return is_usable(mark, horizon, "same", NOON_ORGANIZATION, now)


def test_a_mark_of_the_last_hour_is_used() -> None:
    assert _is_usable()


@pytest.mark.parametrize(
    "changes",
    [
        {"fingerprint": "another"},
        {"store": "restored elsewhere"},
        {"horizon": HORIZON.horizon + 1},
        {"horizon": HORIZON.next - 2**30},
        {"horizon": 3},
        {"evaluated_at": NOW + timedelta(microseconds=1)},
        {"full_at": NOW + timedelta(microseconds=1)},
        {"full_at": naive(utc("2026-10-04T11:59:59"))},
    ],
)
def test_a_mark_that_proves_nothing_is_not_used(changes: dict[str, Any]) -> None:
    assert not _is_usable(replace(MARK, **changes))


def test_ids_that_can_just_be_compared_are() -> None:
    assert _is_usable(replace(MARK, horizon=HORIZON.next - 2**30 + 1))


@pytest.mark.parametrize(
    ("now", "due"),
    [
        (naive(utc("2026-10-05T11:59:00")), naive(utc("2026-10-04T12:00:00"))),
        (naive(utc("2026-10-05T12:00:00")), naive(utc("2026-10-05T12:00:00"))),
        (naive(utc("2026-10-05T23:00:00")), naive(utc("2026-10-05T12:00:00"))),
    ],
)
def test_each_organization_has_its_time_of_the_day(now: datetime, due: datetime) -> None:
    assert latest_full_time(NOON_ORGANIZATION, now) == due


def _evaluation(number: int, conditions: int, kind: str = "dynamic", text: str = "x") -> TriggerEvaluation:
    criteria = {"conditions": [{"field": "plan", "operator": "eq", "value": text}] * conditions}
    segment = {"type": kind, "filter_criteria": criteria if kind == "dynamic" else ["of no meaning"]}
    config = parse_trigger({"segmentId": str(UUID(int=number))})
    own = UUID(int=number)
    return TriggerEvaluation(own, own, own, own, own, config, segment, "", frozenset(), depends_on_time=False)


@pytest.mark.parametrize(
    ("evaluations", "sizes"),
    [
        ([], []),
        ([_evaluation(n, 1) for n in range(250)], [100, 100, 50]),
        ([_evaluation(n, 200) for n in range(5)], [2, 2, 1]),
        ([_evaluation(n, 1, text="x" * 400_000) for n in range(3)], [2, 1]),
        ([_evaluation(n, 0, kind="static") for n in range(3)], [3]),
    ],
    ids=["none", "triggers", "conditions", "characters", "static"],
)
def test_triggers_are_grouped_as_one_statement_can_bear(evaluations: list[TriggerEvaluation], sizes: list[int]) -> None:
    groups = list(in_groups(evaluations))
    assert [len(group) for group in groups] == sizes
    assert [each for group in groups for each in group] == evaluations
