"""Fingerprints of errors: the same for errors that differ in their values only."""

import pytest

from mauntic_jobs.ops.dead_letters.error_fingerprint import fingerprint, normalised


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
