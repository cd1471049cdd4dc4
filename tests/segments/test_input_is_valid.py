"""Texts that may be numbers or times: every server says the same of them."""

import pytest

from mauntic_jobs.stores.postgres.session import Session

_NUMBERS = {
    "1": True,
    "-1.50": True,
    "1e3": True,
    " 7 ": True,
    "": False,
    "x": False,
    "1,5": False,
    "1e999999": False,
    "9" * 130_000: True,
    "9" * 140_000: False,
    "NaN": True,
}
_TIMES = {
    "2026-02-28": True,
    "2026-02-29": False,
    "2024-02-29T23:59:60Z": True,
    "2026-13-01": False,
    "2026-10-01T09:00:00+05:30": True,
    "2026-10-01T09:00:00+99:00": False,
    "2026-10-01 09:00 Mars/Olympus": False,
    "294277-01-01": False,
    "": False,
    "yesterday evening": False,
}
_CASES = [("numeric", each, answer) for each, answer in _NUMBERS.items()]
_CASES += [("timestamptz", each, answer) for each, answer in _TIMES.items()]


@pytest.mark.parametrize(("kind", "text", "answer"), _CASES, ids=lambda each: str(each)[:30])
def test_a_text_is_valid_on_every_server(session: Session, kind: str, text: str, answer: bool) -> None:
    row = session.row(b"SELECT mauntic_jobs.input_is_valid(%(text)s, %(kind)s) AS valid", {"text": text, "kind": kind})
    assert row["valid"] is answer


def test_nothing_is_neither_valid_nor_invalid(session: Session) -> None:
    assert session.row(b"SELECT mauntic_jobs.input_is_valid(NULL, 'numeric') AS valid") == {"valid": None}
