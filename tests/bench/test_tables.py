"""The figures of the documents are those of the stored results."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench import tables
from bench._results import RESULTS

_PAGES = {page.name: page.read_text("utf-8") for page in tables.PAGES}
_PLACES = re.findall(r"<!-- (result|table): (\w+) -->", "".join(_PAGES.values()))


@pytest.mark.parametrize("page", list(_PAGES))
def test_a_page_is_what_the_results_say(page: str) -> None:
    assert tables.rendered(_PAGES[page]) == _PAGES[page], "run python bench/tables.py"


def test_every_table_has_a_place() -> None:
    assert {name for kind, name in _PLACES if kind == "table"} == set(tables.TABLES)


def test_every_table_of_figures_on_the_page_comes_from_results() -> None:
    outside = re.sub(r"<!-- (?:result|table): .*?<!-- end -->", "", _PAGES["performance.md"], flags=re.DOTALL)
    assert [line for line in outside.splitlines() if line.startswith("|")] == []


def test_a_result_that_changes_changes_its_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(name: str) -> dict[str, Any]:
        found = _read(name)
        found["results"][0]["ratio"] = {"median": 123.45, "min": 120.0, "max": 130.0}
        return found

    monkeypatch.setattr(tables, "read", read)
    found = tables.rendered("<!-- table: rates -->\nold\n<!-- end -->")
    assert "123.45 (120.00-130.00)" in found
    assert "old" not in found


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_result_says_where_it_comes_from(path: Path) -> None:
    origin = json.loads(path.read_text("utf-8"))["origin"]
    _, program, *_ = origin["command"].split()
    assert (RESULTS.parent.parent / program).is_file()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", origin["date"])
    assert {"cores", "memory_gb", "load", "Python", "Postgres", "Valkey"} <= set(origin["host"])


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return found
