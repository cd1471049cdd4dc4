"""Retry of dead letters: back to their queue with all their attempts, past the ledgers, which let nothing double."""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

from mauntic_jobs.delivery.ledger.reopen import ReopenRequest, reopen
from mauntic_jobs.ops.dead_letters import failed_set
from mauntic_jobs.ops.dead_letters.batch_action import ActionOutcome, Fate, answered
from mauntic_jobs.ops.dead_letters.dead_letter import RUNS, DeadLetter
from mauntic_jobs.ops.dead_letters.rerun import rerun
from mauntic_jobs.ops.dead_letters.slot_conflicts import free_slot
from mauntic_jobs.ops.dead_letters.store import DeadLetters
from mauntic_jobs.timekeeping.epoch import milliseconds

# Why a letter must stay what it is, by its address.
Refusals = Mapping[str, str]


def retry(box: DeadLetters, letters: Sequence[DeadLetter], log: Callable[[str], None]) -> list[ActionOutcome]:
    """Retry letters, which were read with their payloads, and return what became of each.

    A run is run again here and now; a job goes back to its queue. Killed at any point, it can be repeated.
    """
    refusals = {**_refused_deliveries(box, letters), **_refused_slots(box, letters)}
    outcomes = [
        ActionOutcome(letter, Fate.REFUSED, refusals[letter.address])
        for letter in letters
        if letter.address in refusals
    ]
    left = [letter for letter in letters if letter.address not in refusals]
    outcomes += [rerun(box, letter, log) for letter in left if letter.queue == RUNS]
    for queue, group in groupby((letter for letter in left if letter.queue != RUNS), lambda letter: letter.queue):
        outcomes += _requeue(box, queue, list(group))
    return outcomes


def _requeue(box: DeadLetters, queue: str, letters: Sequence[DeadLetter]) -> list[ActionOutcome]:
    jobs = [(letter.id, letter.score) for letter in letters]
    codes = failed_set.retry(box.redis, box.queue(queue).base, jobs, milliseconds(box.now))
    return [answered(letter, code) for letter, code in zip(letters, codes, strict=True)]


def _refused_deliveries(box: DeadLetters, letters: Sequence[DeadLetter]) -> Refusals:
    wishes = {letter.address: wish for letter in letters if (wish := _wish(letter))}
    # Two jobs may ask for one delivery: the ledger lets it be sent once, whichever job comes first.
    reasons = reopen(box.session, box.redis, list(wishes.values()))
    return {address: reason for address, reason in zip(wishes, reasons, strict=True) if reason}


def _wish(letter: DeadLetter) -> ReopenRequest | None:
    """Return the delivery that a letter asks for; None if it is not one, or cannot be read and will fail again."""
    key = letter.delivery_key
    return ReopenRequest(*key, letter.id, letter.added_at) if key else None


def _refused_slots(box: DeadLetters, letters: Sequence[DeadLetter]) -> Refusals:
    found = {letter.address: free_slot(box, letter) for letter in letters if letter.queue != RUNS}
    return {address: reason for address, reason in found.items() if reason}
