"""The pictures are drawn from the stored results."""

import pytest

from bench.plots import PICTURES, digest, pictures

_DATA = pictures()


@pytest.mark.parametrize("name", list(_DATA))
def test_a_picture_is_drawn_from_the_results(name: str) -> None:
    assert f"data {digest(_DATA[name])}" in (PICTURES / f"{name}.svg").read_text("utf-8"), "run python bench/plots.py"


@pytest.mark.parametrize("name", list(_DATA))
def test_a_picture_loads_nothing_from_elsewhere(name: str) -> None:
    text = (PICTURES / f"{name}.svg").read_text("utf-8")
    assert "<script" not in text
    assert "<image" not in text


def test_another_figure_is_another_picture() -> None:
    data = _DATA["deliver"]
    label, points = next(iter(data["lines"].items()))
    assert digest(data | {"lines": {**data["lines"], label: [*points[:-1], (1.0, 2.0)]}}) != digest(data)
