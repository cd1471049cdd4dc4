"""The peak of a benchmark is the most messages of any second."""

import pytest

from bench.governed import peak


@pytest.mark.parametrize(
    ("times", "most"),
    [([], 0), ([1.0], 1), ([0.0, 0.9, 1.0, 1.1], 3), ([0.5, 0.9, 1.1, 1.4, 2.6], 4), ([0.0, 1.0, 2.0], 1)],
)
def test_a_second_begins_anywhere(times: list[float], most: int) -> None:
    assert peak(times) == most
