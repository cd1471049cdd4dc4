"""Removal of dead letters: Postgres commits a copy, and the end of a delivery, before a job leaves Redis."""

import json
from collections.abc import Sequence
from itertools import groupby
from typing import NoReturn

from mauntic_jobs.delivery.ledger.settle import give_up
from mauntic_jobs.ops.dead_letters import failed_set
from mauntic_jobs.ops.dead_letters.batch_action import ActionOutcome, Fate, answered
from mauntic_jobs.ops.dead_letters.dead_letter import RUNS, DeadLetter
from mauntic_jobs.ops.dead_letters.failed_jobs import as_letter
from mauntic_jobs.ops.dead_letters.store import DeadLetters
from mauntic_jobs.ops.operator_name import operator_name
from mauntic_jobs.redaction.text import scrub
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Limits

_sql = statements("dead_letters")


def discard(box: DeadLetters, letters: Sequence[DeadLetter]) -> list[ActionOutcome]:
    """Keep a copy of each letter and take it off the list; a run stays in its ledger. Repeating it changes nothing.

    A delivery that is owed is given up, so that nothing sends it; one that is being sent is refused.
    """
    outcomes: list[ActionOutcome] = []
    for queue, group in groupby(letters, lambda letter: letter.queue):
        portion = list(group)
        if queue == RUNS:
            _keep(box, portion, [json.dumps(letter.payload) for letter in portion])
            outcomes += [ActionOutcome(letter, Fate.DONE) for letter in portion]
        else:
            outcomes += _remove(box, queue, portion)
    return outcomes


def _remove(box: DeadLetters, queue: str, letters: Sequence[DeadLetter]) -> list[ActionOutcome]:
    base = box.queue(queue).base
    stored = failed_set.read_jobs(box.redis, base, [(letter.score, letter.id.encode()) for letter in letters], ["data"])
    _keep(box, letters, [_as_json(job.fields.get("data")) for job in stored])
    # Before the jobs leave, or a message that is owed would be put on its queue again.
    refusals = _give_up(box, [as_letter(box.queue(queue), job) for job in stored])
    outcomes = [ActionOutcome(letter, Fate.REFUSED, refusals[letter.id]) for letter in letters if letter.id in refusals]
    left = [letter for letter in letters if letter.id not in refusals]
    codes = failed_set.remove(box.redis, base, [(letter.id, letter.score) for letter in left])
    return outcomes + [answered(letter, code) for letter, code in zip(left, codes, strict=True)]


def _give_up(box: DeadLetters, letters: Sequence[DeadLetter]) -> dict[str, str]:
    """Settle the deliveries that letters ask for; return why letters must stay, by their ids."""
    known = {letter.id: key for letter in letters if (key := letter.delivery_key)}
    reasons = give_up(
        box.session,
        [(organization, delivery, job) for job, (organization, delivery) in known.items()],
        f"discarded by {operator_name()}",
        record_activity=box.settings.record_activity,
    )
    return {job: reason for job, reason in zip(known, reasons, strict=True) if reason}


def _keep(box: DeadLetters, letters: Sequence[DeadLetter], payloads: Sequence[str | None]) -> None:
    columns = {
        "queues": [letter.queue for letter in letters],
        "jobs": [_storable(letter.id) for letter in letters],
        "names": [_storable(letter.name) for letter in letters],
        "fingerprints": [letter.fingerprint for letter in letters],
        "reasons": [_storable(scrub(letter.error)) for letter in letters],
        "attempts": [letter.attempts for letter in letters],
        "times": [letter.failed_at for letter in letters],
        "payloads": list(payloads),
    }
    with box.session.transaction(Limits("mauntic-jobs dlq")):
        box.session.execute(_sql["keep"], {**columns, "now": box.now, "by": operator_name()})


def _as_json(data: str | None) -> str | None:
    """Return a job's data as JSON: as it is, or as a text if it is none."""
    if data is None:
        return None
    try:
        json.loads(data, parse_constant=_refused)
    except (ValueError, RecursionError):
        return json.dumps(_storable(data), ensure_ascii=False)
    return data


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is JSON for Python only")


def _storable(text: str) -> str:
    return text.replace("\x00", "�")
