"""CPU time of all work on tenants' texts: it grows no faster than the text, and ends for each message at its budget."""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from time import thread_time
from uuid import uuid4

import pytest

from mauntic_jobs.delivery.addresses import parse_address
from mauntic_jobs.delivery.payload import read_message
from mauntic_jobs.delivery.render import text_budget
from mauntic_jobs.delivery.render.mime import Email, build
from mauntic_jobs.delivery.render.plain_text import is_html, text_of
from mauntic_jobs.delivery.render.sms import check_length, e164
from mauntic_jobs.delivery.render.templates.parser import compile_template
from mauntic_jobs.delivery.sending.redact_reason import without
from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.ops.dead_letters.error_fingerprint import normalised
from mauntic_jobs.ops.dead_letters.filter.parser import parse_where
from mauntic_jobs.redaction.text import scrub
from mauntic_jobs.segments.compiler import Compiler
from mauntic_jobs.segments.criteria import parse_criteria
from mauntic_jobs.settings.types import MessageLimits
from tests.world.corpus import Case, each_case

# A text of the first length is made eight times as long: three doublings.
_CHARACTERS = 25_000
_FACTOR = 8
# Each doubling may take 2.5 times as long. What quadratic work takes is 64 times as long, not 16.
_LIMIT = 2.5**3
# Below it the clock's resolution and a cold cache are all that is measured.
_NOTHING_SECONDS = 0.002


def _email(**fields: object) -> Email:
    ann = parse_address("ann@example.com")
    now = datetime(2026, 10, 1, tzinfo=UTC)
    given = {"html": None, "text": "Hello", "subject": "Hello", **fields}
    return Email(sender=ann, recipient=ann, message_id="<1@acme.test>", date=now, **given)  # type: ignore[arg-type]


def _render(source: str) -> None:
    compile_template(source).render({})


def _criteria(text: str) -> None:
    conditions = json.loads(f"[{text.rstrip(',')}]")
    Compiler().condition(parse_criteria({"operator": "and", "conditions": conditions}))


def _criterion(text: str) -> None:
    condition = {"field": "score", "operator": "gt", "value": text}
    Compiler().condition(parse_criteria({"operator": "and", "conditions": [condition]}))


def _payload(text: str) -> None:
    read_message(f'{{"organizationId": "{uuid4()}", "deliveryId": "1", "body": "{text}"}}', "email", MessageLimits())


WORK: dict[str, Callable[[str], object]] = {
    "text_of": text_of,
    "is_html": is_html,
    "template": _render,
    "where": parse_where,
    "address": parse_address,
    "phone": e164,
    "sms": check_length,
    "header": lambda text: build(_email(subject=text, headers={"X-Note": text}), eight_bit=False),
    "body": lambda text: build(_email(text=text, html=text), eight_bit=False),
    "criteria": _criteria,
    "criterion": _criterion,
    "scrub": scrub,
    "fingerprint": normalised,
    "payload": _payload,
    "quotation": lambda text: without(text[:2_000], _email(text=text)),
}


def _seconds(work: Callable[[str], object], text: str) -> float:
    """Return the CPU time that work on a text takes; what the text is refused for does not matter."""
    began = thread_time()
    with suppress(MaunticJobsError):
        work(text)
    return thread_time() - began


@pytest.mark.slow
@each_case("hostile_shapes")
def test_time_grows_as_the_text_does(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_budget, "MAX_TEXT_SECONDS", 60)
    shape, work = case.input, WORK[case.input["work"]]

    def text(characters: int, run: int) -> str:
        # A little longer each time, so that what is cached is not found again.
        body = shape["unit"] * (characters // len(shape["unit"]) + run)
        return f"{shape.get('head', '')}{body}{shape.get('tail', '')}"

    short = min(_seconds(work, text(_CHARACTERS, run)) for run in range(1, 6))
    long = min(_seconds(work, text(_CHARACTERS * _FACTOR, run)) for run in range(1, 4))
    assert long < max(_NOTHING_SECONDS, _LIMIT * short), f"{short:.6f} s, then {long:.6f} s for {_FACTOR} times as much"


def test_a_message_whose_text_takes_too_long_fails_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_budget, "MAX_TEXT_SECONDS", 0)
    with pytest.raises(
        text_budget.TextBudgetError, match="plain text of its HTML: it takes more than 0 ms of CPU time"
    ):
        text_of("<p>Hello</p>")
