"""Rates, and the portions that they allow."""

import pytest

from mauntic_jobs.errors import UsageError
from mauntic_jobs.ops.rate_limit import Pace, parse_rate


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
