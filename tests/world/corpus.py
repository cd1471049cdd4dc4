"""Corpus of inputs from the real world: tables of cases, each with its source, its input and the right answer.

A table is a file in `cases/`, named like the test module that reads it. A new report becomes one more `[[case]]`:

    [[case]]
    id = "what-was-seen"            # unique in its table
    source = "where it was seen: a specification, a public issue, a real server's answer"
    input = ...                     # any TOML value
    answer = ...                    # what is right
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CASES = Path(__file__).parent / "cases"


@dataclass(frozen=True)
class Case:
    """One input of the real world and the right answer to it."""

    id: str
    source: str
    input: Any
    answer: Any


def read_cases(table: str) -> list[Case]:
    """Return the cases of `cases/{table}.toml`, in their order."""
    return [Case(**case) for case in tomllib.loads((CASES / f"{table}.toml").read_text("utf-8"))["case"]]


def each_case(table: str) -> pytest.MarkDecorator:
    """Parametrize a test with `case`, for each case of a table."""
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in read_cases(table)])
