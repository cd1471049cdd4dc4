"""Texts of others as a terminal, a log or a page gets them: what would control it is shown as escapes."""

import json

from mauntic_jobs.redaction.printable import on_one_line, printable
from tests.world.corpus import Case, each_case


@each_case("shown_texts")
def test_a_text_is_shown_and_controls_nothing(case: Case) -> None:
    assert printable(case.input) == case.answer
    assert printable(printable(case.input)) == printable(case.input)


@each_case("shown_texts")
def test_json_stays_the_same_value(case: Case) -> None:
    assert json.loads(printable(json.dumps({"text": case.input}, ensure_ascii=False))) == {"text": case.input}


def test_a_cell_has_one_line_and_a_text_keeps_its_lines() -> None:
    assert printable("a\n\tb") == "a\n\tb"
    assert on_one_line("a\n\tb") == "a\\n\\tb"


def test_halves_of_pairs_which_no_terminal_gets_are_escapes() -> None:
    assert printable("bad-\udcff") == "bad-\\udcff"
