"""The language of `--where`: what it means, and where it says that it cannot be read."""

from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from mauntic_jobs.errors import UsageError
from mauntic_jobs.ops.dead_letters.dead_letter import DeadLetter
from mauntic_jobs.ops.dead_letters.filter.fields import FIELDS, OPERATORS
from mauntic_jobs.ops.dead_letters.filter.parser import parse_where
from tests.support import organization, utc

NOW = utc("2026-11-05T10:00")
LETTER = DeadLetter(
    queue="delivery:send-email",
    id="j1",
    name="send-email",
    error="421 Too many connections",
    fingerprint="4f1c2a9e",
    attempts=4,
    failed_at=NOW - timedelta(hours=2),
    added_at=NOW - timedelta(hours=3),
    channel="email",
    payload={"organizationId": str(organization(1))},
)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("error~'421'", True),
        ("error ~ 'too MANY'", True),
        ("error!~421", False),
        ("error=421", False),
        ("queue=DELIVERY:send-email", True),
        ("queue!=delivery:send-email", False),
        ("fingerprint=4f1c2a9e", True),
        ("name=send-email and channel=email", True),
        (f"org='{organization(1)}'", True),
        (f'org!="{organization(1)}"', False),
        ("attempts=4", True),
        ("attempts>4", False),
        ("attempts>=4 and attempts<=4 and attempts!=5 and attempts<5", True),
        ("age>1h", True),
        ("age<2h", False),
        ("age<=2h", True),
        ("age>2h or attempts=4", True),
        ("attempts=4 or age>2h and attempts=5", True),
        ("(attempts=4 or age>2h) and attempts=5", False),
        ("not age>2h and not (attempts=5)", True),
        ("NOT NOT error~421 AND attempts=4", True),
    ],
)
def test_a_condition_is_true_of_a_letter_or_not(text: str, holds: bool) -> None:
    assert parse_where(text).holds(LETTER, NOW) is holds


@pytest.mark.parametrize(
    ("text", "at", "problem"),
    [
        ("", 0, "expected a field"),
        ("colour=red", 0, "expected a field: queue, error"),
        ("error", 5, "expected an operator for error: = != ~ !~"),
        ("error > 3", 6, "expected an operator for error"),
        ("age = 2h", 4, "expected an operator for age: < > <= >="),
        ("attempts ~ 4", 9, "expected an operator for attempts"),
        ("error~", 6, "expected a value"),
        ("error~ and", 7, "expected a value"),
        ("error~'421", 6, "expected a value"),
        ("attempts>many", 9, "'many' is no number"),
        ("age>soon", 4, "Cannot read 'soon' as a length of time"),
        ("(error~x", 8, "expected a closing parenthesis"),
        ("error~x)", 7, "expected `and`, `or` or the end"),
        ("error~x error~y", 8, "expected `and`, `or` or the end"),
        ("not", 3, "expected a field"),
        ("(" * 60 + "error~x", 50, "nested too deep"),
    ],
)
def test_what_cannot_be_read_is_pointed_at(text: str, at: int, problem: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_where(text)
    sentence, shown, pointer = str(raised.value).split("\n")
    assert problem in sentence
    assert (shown, pointer) == (f"  {text}", f"  {' ' * at}^")


@given(st.text(alphabet="ea'\"()=~<>! not21hqueue", max_size=40))
@hypothesis_settings(deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(UsageError):
        parse_where(text).holds(LETTER, NOW)


@given(st.data())
@hypothesis_settings(deadline=None)
def test_negation_turns_every_comparison_round(data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(list(FIELDS)))
    operator = data.draw(st.sampled_from(OPERATORS[FIELDS[field]]))
    value = {"text": "4", "count": "4", "duration": "2h"}[FIELDS[field]]
    text = f"{field}{operator}{value}"
    assert parse_where(f"not {text}").holds(LETTER, NOW) is not parse_where(text).holds(LETTER, NOW)
