"""Frequency caps, as settings write them."""

from datetime import timedelta

import pytest

from mauntic_jobs.settings.frequency_cap import FrequencyCap
from mauntic_jobs.settings.settings import Settings


def test_it_is_a_number_and_a_period() -> None:
    assert FrequencyCap.read("3 in 7d") == (3, timedelta(days=7))
    assert FrequencyCap.read("100 in 1h") == (100, timedelta(hours=1))


@pytest.mark.parametrize(
    "text", ["", "3", "3/7d", "0 in 7d", "101 in 7d", "3 in 7", "3 in 59m", "3 in 32d", "-1 in 7d", "1.5 in 7d"]
)
def test_what_is_none_is_refused_with_what_it_must_be(text: str) -> None:
    with pytest.raises(ValueError, match=r"a number up to 100 and a period of 1h to 31d, like 3 in 7d"):
        Settings(channels={"sms": {"frequency_cap": text}})


def test_it_is_written_as_it_is_read() -> None:
    assert [str(FrequencyCap.read(each)) for each in ("3 in 1w", "1 in 36h")] == ["3 in 7d", "1 in 1d12h"]
