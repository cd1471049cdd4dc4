"""Actions on dead letters, a portion at a time, with the outcome for each."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import islice
from typing import NamedTuple

from mauntic_jobs.ops.dead_letters import failed_set
from mauntic_jobs.ops.dead_letters.dead_letter import DeadLetter
from mauntic_jobs.ops.rate_limit import Pace


class Fate(StrEnum):
    """What became of a letter: it is no dead letter any more, stayed one for a reason, left before, or failed again."""

    DONE = "done"
    REFUSED = "refused"
    GONE = "gone"
    FAILED = "failed"


class ActionOutcome(NamedTuple):
    """What became of a letter, and why if it is still one."""

    letter: DeadLetter
    fate: Fate
    reason: str = ""


Action = Callable[[Sequence[DeadLetter]], list[ActionOutcome]]


def act(letters: Iterable[DeadLetter], action: Action, pace: Pace, limit: int | None) -> Iterator[ActionOutcome]:
    """Do something to letters, at most `limit` of them, and yield what became of each.

    Each portion is done with before the next begins, so that one may stop at any point and begin again.
    """
    left = islice(letters, limit)
    while portion := list(islice(left, pace.portion)):
        pace.wait(len(portion))
        yield from action(portion)


def answered(letter: DeadLetter, code: int) -> ActionOutcome:
    """Return the outcome that a script's answer tells."""
    match code:
        case failed_set.DONE:
            return ActionOutcome(letter, Fate.DONE)
        case failed_set.OF_SCHEDULER:
            return ActionOutcome(letter, Fate.REFUSED, "it is the next job of its scheduler")
        case _:
            return ActionOutcome(letter, Fate.GONE, "it was retried or removed meanwhile")
