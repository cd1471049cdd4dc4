"""The corpus itself: each table is read by the test module of its name, and each case says where it was seen."""

from pathlib import Path

import pytest

from tests.world.corpus import CASES, read_cases

_TABLES = sorted(path.stem for path in CASES.glob("*.toml"))


@pytest.mark.parametrize("table", _TABLES)
def test_a_table_is_read_by_the_test_of_its_name(table: str) -> None:
    text = (Path(__file__).parent / f"test_{table}.py").read_text("utf-8")
    assert f'"{table}"' in text


@pytest.mark.parametrize("table", _TABLES)
def test_each_case_has_a_source_and_an_id_of_its_own(table: str) -> None:
    cases = read_cases(table)
    assert len({case.id for case in cases}) == len(cases)
    assert all(case.source.strip() for case in cases)
