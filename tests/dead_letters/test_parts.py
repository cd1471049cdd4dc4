"""Fingerprints, masks, rates and thresholds, by themselves."""

from datetime import timedelta
from typing import Any

import pytest

from mauntic_jobs.errors import UsageError
from mauntic_jobs.ops.dead_letters import groups
from mauntic_jobs.ops.dead_letters.fingerprints import fingerprint, normalised
from mauntic_jobs.ops.dead_letters.groups import OTHERS, grouped
from mauntic_jobs.ops.dead_letters.letter import DeadLetter
from mauntic_jobs.ops.dead_letters.watch import Measure, Standing, Thresholds, evaluate
from mauntic_jobs.ops.masking import masked
from mauntic_jobs.ops.pace import Pace, parse_rate
from tests.support import utc

NOW = utc("2026-11-05T10:00")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("421 4.7.0 too many connections from 10.1.2.3", "421 4.7.0 too many connections from 192.0.2.77:25"),
        ("550 5.1.1 <ann@example.com> unknown, id 8123", "550 5.1.1 <bob@mail.test> unknown, id 9"),
        ("no answer within 12.5 s after 3 attempts", "no answer within 9 s after 4 attempts"),
        ("took 250 ms", "took 1,250 ms"),
        ("job 4f1c2a9e-0000-4000-8000-0123456789ab failed", "job 4F1C2A9E-1111-4000-8000-0123456789AB failed"),
        ("key deadbeef12 and 0x7f", "key 0badcafe99 and 0xff"),
        ("cannot read 'foo' of \"bar\"", "cannot read 'baz' of \"\""),
        ("GET https://api.test/v1/x?y=1 failed", "GET https://api.test/v2 failed"),
        ("to +15550100123", "to +15550100999"),
        ("spread over\n  two lines", "spread over two lines"),
    ],
)
def test_errors_that_differ_in_their_values_are_the_same(one: str, other: str) -> None:
    assert fingerprint("q", one) == fingerprint("q", other), (normalised(one), normalised(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("421 4.7.0 try later", "451 4.7.0 try later"),
        ("550 5.1.1 no", "550 5.7.1 no"),
        ("HTTP 429", "HTTP 503"),
        ("connection refused", "connection reset"),
        ("it's closed", "it's open"),
    ],
)
def test_errors_that_mean_something_else_are_told_apart(one: str, other: str) -> None:
    assert fingerprint("q", one) != fingerprint("q", other)


def test_the_same_error_of_two_queues_is_two_kinds() -> None:
    assert fingerprint("one", "x") != fingerprint("other", "x")


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        ({"emailAddress": "ann@example.com"}, {"emailAddress": "<address>"}),
        ({"phoneNumber": 15550100123}, {"phoneNumber": "<phone>"}),
        ({"deviceToken": "abc:def"}, {"deviceToken": "<secret>"}),
        ({"from": "Ann <ann@example.com>", "replyTo": None}, {"from": "<address>", "replyTo": None}),
        ({"data": {"to": ["x@y.test", {"Email": "z"}]}}, {"data": {"to": ["<address>", {"Email": "<address>"}]}}),
        ({"body": "call +1 555 0100 123 or ann@example.com"}, {"body": "call <phone> or <address>"}),
        ({"unsubscribeUrl": "https://x.test/u?c=1"}, {"unsubscribeUrl": "<url>"}),
        ({"badge": 3, "deliveryId": "d1", "subject": "Hello"}, {"badge": 3, "deliveryId": "d1", "subject": "Hello"}),
    ],
)  # fmt: skip
def test_payloads_are_masked_by_the_names_of_their_fields_and_by_their_texts(payload: Any, shown: Any) -> None:
    assert masked(payload) == shown
    assert masked(payload, reveal=True) == payload


def test_a_payload_that_is_nested_without_end_is_masked_too() -> None:
    nested: Any = "ann@example.com"
    for _ in range(500):
        nested = [nested]
    assert "ann@example.com" not in str(masked(nested))


@pytest.mark.parametrize(("text", "rate"), [("5/s", 5.0), ("300/m", 5.0), ("1800/h", 0.5), (" 0.5/S ", 0.5)])
def test_a_rate_is_so_many_a_second(text: str, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "5", "5/d", "0/s", "-1/s", "fast"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="5/s"):
        parse_rate(text)


def test_portions_wait_for_their_turn_and_the_first_for_none() -> None:
    slept: list[float] = []
    pace = Pace(0.5, slept.append)
    assert (pace.portion, Pace(7.9).portion, Pace(10_000).portion) == (1, 7, 100)
    for _ in range(3):
        pace.wait(1)
    # Nothing sleeps here, so that each waits for all before it.
    assert [round(seconds) for seconds in slept] == [2, 4]


def letter(error: str, hours: float, job: str = "j") -> DeadLetter:
    at = NOW - timedelta(hours=hours)
    return DeadLetter("q", job, "n", error, fingerprint("q", error), 1, at, at)


def test_groups_count_and_keep_the_first_the_last_and_the_latest_example() -> None:
    found = grouped([letter("a 1", 3, "j1"), letter("b", 9, "j2"), letter("a 2", 1, "j3")], NOW - timedelta(hours=2))
    assert [(group.count, group.recent, group.example.id) for group in found] == [(2, 1, "j3"), (1, 0, "j2")]
    assert (NOW - found[0].first, NOW - found[0].last) == (timedelta(hours=3), timedelta(hours=1))


def test_too_many_kinds_of_error_are_counted_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_MOST_GROUPS", 2)
    found = grouped(letter(error, 1) for error in ("a", "b", "c", "d", "a"))
    assert {group.fingerprint: group.count for group in found} == {
        fingerprint("q", "a"): 2,
        fingerprint("q", "b"): 1,
        OTHERS: 2,
    }


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
