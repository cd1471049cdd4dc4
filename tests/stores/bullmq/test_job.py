"""What a job says of itself, and what the platform's policy makes of it."""

import json
from datetime import timedelta
from typing import Any

import pytest

from mauntic_jobs.stores.bullmq.commands import Taken, next_due
from mauntic_jobs.stores.bullmq.job import ReceivedJob, UnrecoverableError, received


@pytest.mark.parametrize(
    ("backoff", "made", "seconds"),
    [
        (None, 2, 4),
        ({"type": "exponential", "delay": 500}, 1, 1),
        ({"type": "fixed", "delay": 3000}, 5, 3),
        (7000, 3, 7),
        ({"type": "custom"}, 0, 1),
        ({"type": "exponential", "delay": None}, 0, 1),
        ({"type": "exponential", "delay": 1000}, 90, 7 * 86_400),
        ({"type": "fixed", "delay": 10**30}, 0, 7 * 86_400),
        ({"type": "exponential", "delay": 10**30}, 10**30, 7 * 86_400),
    ],
)
def test_the_wait_is_the_jobs_own_or_the_platforms(backoff: object, made: int, seconds: int) -> None:
    job = _received({"backoff": backoff}, atm=str(made))
    assert job.retry_delay() == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, {"age": 3600}),
        ({"removeOnComplete": True}, {"count": 0}),
        ({"removeOnComplete": False}, {"count": -1}),
        ({"removeOnComplete": 5}, {"count": 5}),
        ({"removeOnComplete": {"age": 9, "count": 1}}, {"age": 9, "count": 1}),
        ({"removeOnComplete": {"age": "soon", "count": -4, "limit": None}}, {}),
        ({"removeOnComplete": 10**30}, {"count": 2**53}),
    ],
)
def test_completed_jobs_stay_as_long_as_they_ask_for_or_an_hour(options: dict[str, Any], kept: dict[str, int]) -> None:
    job = _received(options)
    assert (job.kept(failed=False), job.kept(failed=True)) == (kept, {"count": -1})


def _received(options: dict[str, Any], **fields: str) -> ReceivedJob:
    return received(Taken("1", {"name": "test", "data": "{}", "opts": json.dumps(options), "timestamp": "0", **fields}))


def test_a_job_is_due_when_its_scheduler_meant_it() -> None:
    taken = Taken("repeat:aggregate-hourly:1790000000000", {"name": "test", "data": "{}", "timestamp": "5"})
    assert received(taken).due.timestamp() == 1_790_000_000


def test_a_job_without_data_has_none() -> None:
    assert received(Taken("1", {"name": "test", "data": "null", "timestamp": "0"})).data == {}


def test_data_that_are_nested_too_deep_are_unreadable() -> None:
    with pytest.raises(UnrecoverableError, match="cannot be read"):
        received(Taken("1", {"name": "test", "data": "[" * 100_000, "timestamp": "0"}))


def test_only_a_script_that_looked_knows_when_the_next_job_is_due() -> None:
    assert next_due([0, 0, 0, b"1790000000000"], 5) == 1_790_000_000_000
    assert next_due([0, 0, 0, 0], 5) == 0
    assert next_due([0, 0, b"1500", 0], 5) == 1_505
    assert next_due(0, 5) is None
