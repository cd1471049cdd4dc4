"""A job as it was taken from a queue, and what the platform's policy makes of its options."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeGuard

from mauntic_jobs.stores.bullmq.commands import Taken, Turn
from mauntic_jobs.stores.bullmq.enqueue import JOB_OPTIONS
from mauntic_jobs.timekeeping.epoch import instant_of

_ITERATION = re.compile(r"repeat:.*:(\d{1,14})")
_MAX_DELAY_MS = 7 * 86_400_000
_MAX_ATTEMPTS = 100
_NO_OPTIONS = "{}"
# Lua counts exactly up to here.
_MAX_SAFE_INTEGER = 2**53


class UnrecoverableError(Exception):
    """A job that need not be tried again."""


class GiveBackError(Exception):
    """The job was not done and nothing failed: another worker may take it."""


@dataclass(frozen=True)
class ReceivedJob:
    """A job of a queue. `due` is when it was to be run: its slot, if a job scheduler made it, aware, in UTC.

    `attempts_made` are those that failed before this one, `attempts` how many it has in all. `options` are the job's
    own as BullMQ stores them; `scheduler` the id of the job scheduler that made it. `policy` holds the options that a
    job without its own goes by, in BullMQ's terms. `retried` is when a person last asked for it again after it had
    failed, or None. `retried_by_hand`: it had failed, and another tool than ours, such as Bull Board, put it back.
    `turn` says why it was taken now, where the queue's jobs have turns.
    """

    id: str
    name: str
    data: Mapping[str, object]
    due: datetime
    attempts_made: int
    attempts: int
    options: Mapping[str, object]
    scheduler: str | None = None
    policy: Mapping[str, Any] = field(default_factory=lambda: JOB_OPTIONS)
    retried: datetime | None = None
    retried_by_hand: bool = False
    turn: Turn | None = None

    @property
    def last_attempt(self) -> bool:
        """Whether the job fails for good if this attempt fails."""
        return self.attempts_made + 1 >= self.attempts

    def retry_delay(self) -> timedelta:
        """Return the wait before the next attempt: the job's own backoff, or the platform's 1 s, 2 s, 4 s."""
        backoff = self.options.get("backoff")
        if _is_number(backoff):
            backoff = {"type": "fixed", "delay": backoff}
        if not isinstance(backoff, dict) or backoff.get("type") not in ("fixed", "exponential"):
            backoff = self.policy["backoff"]
        delay = backoff.get("delay")
        base = min(delay, _MAX_DELAY_MS) if _is_number(delay) and delay >= 0 else self.policy["backoff"]["delay"]
        doubled = base * 2 ** min(max(self.attempts_made, 0), 30) if backoff["type"] == "exponential" else base
        return timedelta(milliseconds=min(doubled, _MAX_DELAY_MS))

    def kept(self, *, failed: bool) -> Mapping[str, float]:
        """Return how many finished jobs stay, in BullMQ's terms: by the job, or completed ones for an hour."""
        name = "removeOnFail" if failed else "removeOnComplete"
        keep = self.options.get(name)
        keep = self.policy[name] if keep is None else keep
        if isinstance(keep, bool):
            return {"count": 0 if keep else -1}
        if isinstance(keep, int):
            return {"count": max(-1, min(keep, _MAX_SAFE_INTEGER))}
        given = keep if isinstance(keep, dict) else {}
        # BullMQ's script fails on anything else, and the job would never end.
        numbers = {name: given[name] for name in ("age", "count", "limit") if _is_number(given.get(name))}
        return {name: int(min(number, _MAX_SAFE_INTEGER)) for name, number in numbers.items() if number >= 0}


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def slot_of(job: str) -> datetime | None:
    """Return the instant that a job scheduler made the job of this id for, aware, in UTC; None for other jobs."""
    iteration = _ITERATION.fullmatch(job) if job.startswith("repeat:") else None
    return instant_of(int(iteration[1])) if iteration else None


def due_of(score: float) -> float:
    """Return when a delayed job is due, in seconds since 1970, by its score: milliseconds, shifted by twelve bits."""
    return score / 0x1000 / 1000


def integer_in(text: str | bytes | None) -> int | None:
    """Return a number as BullMQ stores it, a time in milliseconds say, without its fraction; None for anything else."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    # Node's `Date.now()` is an integer, and `performance.now()` is not.
    return int(number) if abs(number) < _MAX_SAFE_INTEGER else None


def received(taken: Taken, policy: Mapping[str, Any] = JOB_OPTIONS, *, with_data: bool = True) -> ReceivedJob:
    """Return the job as what it says of itself, its `data` empty unless `with_data`.

    Raises UnrecoverableError that says what cannot be read.
    """
    if "name" not in taken.fields and "timestamp" not in taken.fields:
        raise UnrecoverableError(
            "the job cannot be read: its hash was deleted from Redis while its id stood on the queue"
        )
    try:
        data = json.loads(taken.fields["data"]) if with_data else None
        written = taken.fields.get("opts") or _NO_OPTIONS
        options = {} if written == _NO_OPTIONS else json.loads(written)
        name, made = taken.fields["name"], int(taken.fields.get("atm") or taken.fields.get("attemptsMade") or 0)
        added_for = _instant(taken, "timestamp", options.get("delay") if _is_object(options) else 0)
        retried_at = _instant(taken, "retriedOn") if taken.fields.get("retriedOn") else None
    except KeyError as error:
        raise UnrecoverableError(f"the job cannot be read: it has no {error.args[0]}") from None
    except (ValueError, OverflowError, OSError, RecursionError) as error:
        raise UnrecoverableError(f"the job cannot be read: {type(error).__name__}: {error}") from None
    data = {} if data is None else data
    if not _is_object(data) or not _is_object(options):
        raise UnrecoverableError("the job cannot be read: its data and options must be JSON objects")
    attempts = _attempts(options.get("attempts"), policy["attempts"])
    scheduler = taken.fields.get("rjk") or None
    # A program that tries a job again by itself leaves the reason of the last attempt there.
    by_hand = made > 0 and not taken.fields.get("failedReason")
    due_at = slot_of(taken.id) or added_for
    return ReceivedJob(
        *(taken.id, name, data, due_at, made, attempts, options, scheduler, policy, retried_at, by_hand, taken.turn)
    )


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _instant(taken: Taken, field: str, delay: object = 0) -> datetime:
    at = integer_in(taken.fields[field])
    if at is None:
        raise ValueError(f"{field} {taken.fields[field]!r} is not a time in milliseconds")
    later = delay if _is_number(delay) and abs(delay) < _MAX_SAFE_INTEGER else 0
    return instant_of(int(at + later))


def _attempts(wanted: object, policy: int) -> int:
    """Return how often a job is tried, or the policy's number where it gives none.

    Node writes 0 for a job whose producer gave no attempts, so that 0 cannot mean anything else.
    """
    return math.ceil(wanted) if _is_number(wanted) and 0 < wanted <= _MAX_ATTEMPTS else policy
