"""Tables on terminals of 80, 100 and 120 columns: no word is cut, and a command can be copied."""

import re
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text

import mauntic_jobs
from mauntic_jobs.cli.framework.table_layout import table_lines, wrapped

UUID = "7b0e1c2a-3d4e-4f60-8a7b-9c0d1e2f3a4b"
COMMAND = f"mauntic-jobs providers check --org {UUID} --retry-now --rate 100/s --json --wide"
ROWS: list[dict[str, Any]] = [
    {
        "delivery_id": f"{number}c3f2f9e-3d4e-4f60-8a7b-9c0d1e2f3a4b",
        "channel": "email",
        "attempts": "1,234",
        "window": "2026-10-05T09:00Z/2026-10-05T10:00Z",
        "updated_at": "2026-11-26 19:52:59",
        "reason": f"custom_smtp {UUID}: the login was refused: 535 5.7.8 authentication failed, and says so",
        "action": COMMAND,
        "note": "-",
    }
    for number in range(3)
]


def lines(width: int, rows: list[dict[str, Any]] = ROWS, *, wide: bool = False) -> list[str]:
    cells = [{name: Text(value) for name, value in row.items()} for row in rows]
    names = list(rows[0]) if rows else ["a", "b"]
    return [line.plain for line in table_lines(cells, names, ["attempts"], width, wide=wide)]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_line_is_too_long_but_for_a_command(width: int) -> None:
    shown = lines(width)
    assert [line for line in shown if len(line) > width and line.strip() != COMMAND] == []
    assert shown.count(f"    {COMMAND}") == len(ROWS)


@pytest.mark.parametrize("width", [20, 40, 80, 100, 120, 200, 10_000])
def test_every_word_is_there_whole(width: int) -> None:
    shown = re.split(r"[\s,]+", " ".join(lines(width)))
    for row in ROWS:
        for name in ("channel", "window", "updated_at", "reason", "action"):
            for word in re.split(r"[\s,]+", row[name]):
                assert word in shown


def test_twice_the_rows_take_no_more_than_twice_the_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def measure(text: str) -> int:
        measured.append(text)
        return len(text)

    monkeypatch.setattr("rich.text.cell_len", measure)
    lines(80, ROWS[:1] * 100)
    few = len(measured)
    lines(80, ROWS[:1] * 200)
    assert few < len(measured) <= 3 * few


@pytest.mark.parametrize("width", [80, 100, 120])
def test_ids_lose_their_middle_unless_it_is_wide(width: int) -> None:
    narrow = "\n".join(lines(width))
    assert "0c3f2f9e…3a4b" in narrow
    assert str(ROWS[0]["delivery_id"]) not in narrow
    wide = lines(width, wide=True)
    assert (len(wide), all(str(row["delivery_id"]) in line for row, line in zip(ROWS, wide[1:], strict=True))) == (
        4,
        True,
    )


def test_a_table_that_fits_is_left_alone() -> None:
    rows = [{"run": "1", "id": UUID}, {"run": "22", "id": UUID}]
    assert lines(60, rows) == ["run  id", f"1    {UUID}", f"22   {UUID}"]


def test_what_is_below_a_row_has_its_name_unless_it_is_a_sentence() -> None:
    row = {"job": "a" * 20, "cron": "b" * 20, "state": "c" * 10, "text": "d " * 30}
    assert lines(30, [row]) == [
        "job",
        "a" * 20,
        f"    cron {'b' * 20},",
        f"    state {'c' * 10}",
        "    d d d d d d d d d d d d d",
        "    d d d d d d d d d d d d d",
        "    d d d d",
    ]


def test_a_table_without_rows_has_its_header() -> None:
    assert lines(80, []) == ["a  b"]


def test_a_word_that_is_longer_than_the_line_stays_whole() -> None:
    assert wrapped(f"see {UUID} there", 20, "  ", "  ") == ["  see", f"  {UUID}", "  there"]


def test_no_sentence_is_in_a_color_that_vanishes_on_white() -> None:
    sources = Path(mauntic_jobs.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if re.search(r"[\"' ]yellow[\"']", path.read_text())] == []
