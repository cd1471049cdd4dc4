from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from mauntic_jobs.timekeeping.epoch import instant_of, milliseconds


@given(st.integers(0, 4_102_444_800_000))
def test_milliseconds_there_and_back_are_the_same(number: int) -> None:
    assert milliseconds(instant_of(number)) == number


def test_what_is_shorter_than_a_millisecond_is_cut_off() -> None:
    instant = datetime(2026, 10, 5, 10, 0, 0, 123_999, tzinfo=UTC)
    assert milliseconds(instant) == milliseconds(instant - timedelta(microseconds=999))
    assert instant_of(milliseconds(instant)).microsecond == 123_000


def test_a_number_beyond_the_calendar_is_refused() -> None:
    with pytest.raises(OverflowError):
        instant_of(10**18)
