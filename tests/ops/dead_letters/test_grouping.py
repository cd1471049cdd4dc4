"""Groups of dead letters, one for each kind of error."""

from datetime import timedelta

import pytest

from mauntic_jobs.ops.dead_letters import grouping as groups
from mauntic_jobs.ops.dead_letters.dead_letter import DeadLetter
from mauntic_jobs.ops.dead_letters.error_fingerprint import fingerprint
from mauntic_jobs.ops.dead_letters.grouping import OTHERS, grouped
from tests.support import utc

NOW = utc("2026-11-05T10:00")


def letter(error: str, hours: float, job: str = "j") -> DeadLetter:
    at = NOW - timedelta(hours=hours)
    return DeadLetter("q", job, "n", error, fingerprint("q", error), 1, at, at)


def test_groups_count_and_keep_the_first_the_last_and_the_latest_example() -> None:
    found = grouped([letter("a 1", 3, "j1"), letter("b", 9, "j2"), letter("a 2", 1, "j3")], NOW - timedelta(hours=2))
    assert [(group.count, group.recent, group.example.id) for group in found] == [(2, 1, "j3"), (1, 0, "j2")]
    assert (NOW - found[0].first, NOW - found[0].last) == (timedelta(hours=3), timedelta(hours=1))


def test_too_many_kinds_of_error_are_counted_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_MAX_GROUPS", 2)
    found = grouped(letter(error, 1) for error in ("a", "b", "c", "d", "a"))
    assert {group.fingerprint: group.count for group in found} == {
        fingerprint("q", "a"): 2,
        fingerprint("q", "b"): 1,
        OTHERS: 2,
    }
