"""Details of one dead letter."""

import json
from contextlib import suppress
from uuid import UUID

from mauntic_jobs.delivery.ledger.queries import show_delivery
from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import Row
from mauntic_jobs.ops.dead_letters import failed_jobs
from mauntic_jobs.ops.dead_letters.dead_letter import RUNS, DeadLetter
from mauntic_jobs.ops.dead_letters.failed_set import stack_traces
from mauntic_jobs.ops.dead_letters.store import DeadLetters
from mauntic_jobs.redaction.payloads import mask_payload, mask_text
from mauntic_jobs.runner.history import show_run

_FIELDS = (*failed_jobs.FIELDS, *failed_jobs.PAYLOAD, *failed_jobs.DETAILS)


def show(box: DeadLetters, letter: DeadLetter, *, reveal: bool = False) -> Row:
    """Return a letter with its payload, its errors and what the ledgers hold of it, masked unless `reveal`.

    `traces` are the errors of the attempts as BullMQ kept them; `delivery` is the delivery ledger's row, with its own
    attempts and events, `run` the row of the ledger of runs; each is None where there is none.
    """
    found = summary(letter, reveal=reveal)
    if letter.queue == RUNS:
        return {
            **found,
            "options": None,
            "traces": [],
            "delivery": None,
            "run": _run(box, int(letter.id), reveal=reveal),
        }
    job = failed_jobs.raw(box.redis, box.queue(letter.queue), letter.id, _FIELDS)
    fields = job.fields if job else {}
    # Data that is no JSON object is shown as the text that it is.
    payload = found["payload"] if letter.payload is not None else mask_text(fields.get("data", ""), reveal=reveal)
    return {
        **found,
        "payload": payload,
        "options": mask_payload(_json(fields.get("opts")), reveal=reveal),
        "traces": [mask_text(trace, reveal=reveal) for trace in stack_traces(fields)],
        "delivery": mask_payload(_delivery(box, letter), reveal=reveal),
        "run": None,
    }


def summary(letter: DeadLetter, *, reveal: bool = False) -> Row:
    """Return a letter with its payload, masked unless `reveal`."""
    return {
        "id": letter.address,
        "queue": letter.queue,
        "name": letter.name,
        "fingerprint": letter.fingerprint,
        "error": mask_text(letter.error, reveal=reveal),
        "attempts": letter.attempts,
        "added_at": letter.added_at,
        "failed_at": letter.failed_at,
        # Whatever the job has there, which may be no organization and no channel.
        "organization": mask_payload(letter.organization, reveal=reveal),
        "channel": mask_payload(letter.channel, reveal=reveal),
        "payload": mask_payload(letter.payload, reveal=reveal),
    }


def _delivery(box: DeadLetters, letter: DeadLetter) -> Row | None:
    if letter.delivery is None or letter.organization is None:
        return None
    with suppress(UsageError, ValueError):  # the ledger has none, or no organization has such an id
        return show_delivery(box.session, letter.delivery, UUID(letter.organization))
    return None


def _run(box: DeadLetters, run: int, *, reveal: bool) -> Row:
    row = show_run(box.session, run)
    written = {name: row[name] for name in ("options", "error")}
    # The rest is the ledger's own, such as its fencing token.
    return {**row, **mask_payload(written, reveal=reveal)}


def _json(text: str | None) -> object:
    try:
        return json.loads(text or "null")
    except (ValueError, RecursionError):
        return None
