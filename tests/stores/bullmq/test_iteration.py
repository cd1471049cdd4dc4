"""What follows the job of a job scheduler."""

import json
from typing import Any

import pytest

from mauntic_jobs.errors import UsageError
from mauntic_jobs.stores.bullmq.commands import Taken
from mauntic_jobs.stores.bullmq.iteration import next_iteration
from mauntic_jobs.timekeeping.epoch import milliseconds
from tests.support import utc

_DUE = utc("2026-11-01T10:00")


def _taken(**repeat: Any) -> Taken:
    options = {"attempts": 2, "repeat": {"pattern": "0 * * * *", "count": 7, **repeat}}
    return Taken(f"repeat:hourly:{milliseconds(_DUE)}", {"rjk": "hourly", "opts": json.dumps(options)})


def _at(now: str, **repeat: Any) -> int | None:
    iteration = next_iteration(_taken(**repeat), utc(now))
    return None if iteration is None else iteration.at


def test_the_next_job_is_like_the_one_before_and_counted() -> None:
    iteration = next_iteration(_taken(), utc("2026-11-01T10:00:01"))
    at = milliseconds(utc("2026-11-01T11:00"))
    assert iteration is not None
    assert (iteration.scheduler, iteration.at) == ("hourly", at)
    assert iteration.options == {
        "attempts": 2,
        "repeat": {"pattern": "0 * * * *", "count": 8},
        "jobId": f"repeat:hourly:{at}",
        "prevMillis": at,
        "timestamp": milliseconds(utc("2026-11-01T10:00:01")),
        "repeatJobKey": "hourly",
    }


@pytest.mark.parametrize(
    ("now", "repeat", "expected"),
    [
        ("2026-11-01T10:00:01", {}, "2026-11-01T11:00"),
        ("2026-11-01T13:30", {}, "2026-11-01T14:00"),  # what was missed meanwhile is not made up for
        ("2026-11-01T09:59:59", {}, "2026-11-01T11:00"),  # the worker's clock is behind
        ("2026-11-01T10:00:01", {"pattern": "0 30 10 * * *"}, "2026-11-01T10:30"),  # a field for seconds
        ("2026-11-01T10:00:01", {"pattern": "0 2 * * *", "tz": "Europe/Berlin"}, "2026-11-02T01:00"),
        ("2026-03-28T12:00", {"pattern": "30 2 * * *", "tz": "Europe/Berlin"}, "2026-11-02T01:30"),
        ("2026-11-01T10:00:01", {"startDate": milliseconds(utc("2026-12-01T00:00"))}, "2026-12-01T01:00"),
        ("2026-11-01T10:00:01", {"limit": 8}, "2026-11-01T11:00"),
        ("2026-11-01T10:00:01", {"limit": 7}, None),
        ("2026-11-01T10:00:01", {"endDate": milliseconds(utc("2026-11-01T10:00:02"))}, "2026-11-01T11:00"),
        ("2026-11-01T10:00:01", {"endDate": milliseconds(utc("2026-11-01T10:00"))}, None),
    ],
)
def test_the_next_instant_is_that_of_the_pattern(now: str, repeat: dict[str, Any], expected: str | None) -> None:
    assert _at(now, **repeat) == (None if expected is None else milliseconds(utc(expected)))


def test_an_hour_that_comes_twice_in_a_zone_counts_once() -> None:
    # On 25 October 2026 clocks in Berlin go from 03:00 back to 02:00, which is 01:00 in UTC.
    due = utc("2026-10-25T00:30")
    options = {"repeat": {"pattern": "30 2 * * *", "tz": "Europe/Berlin"}}
    taken = Taken(f"repeat:nightly:{milliseconds(due)}", {"rjk": "nightly", "opts": json.dumps(options)})
    iteration = next_iteration(taken, due)
    assert iteration is not None
    assert iteration.at == milliseconds(utc("2026-10-26T01:30"))


def test_a_job_that_no_scheduler_made_is_followed_by_none() -> None:
    assert next_iteration(Taken("1", {"opts": "{}"}), _DUE) is None


@pytest.mark.parametrize(
    ("taken", "reason"),
    [
        (_taken(tz="Atlantis/Capital"), "its zone 'Atlantis/Capital' is unknown"),
        (_taken(pattern="whenever"), "is not a valid cron expression"),
        (Taken("repeat:hourly:0", {"rjk": "hourly", "opts": "{"}), "do not say how it repeats"),
        (Taken("repeat:hourly:0", {"rjk": "hourly", "opts": "{}"}), "do not say how it repeats"),
        (Taken("repeat:a1b2:0", {"rjk": "hourly:::: 0 * * * *", "opts": '{"repeat": {}}'}), "register it anew"),
    ],
)
def test_a_scheduler_that_cannot_be_followed_is_a_usage_error(taken: Taken, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        next_iteration(taken, _DUE)
