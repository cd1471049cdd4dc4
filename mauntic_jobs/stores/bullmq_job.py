"""A job as it was taken from a queue, and what the platform's policy makes of its options."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from mauntic_jobs.stores.bullmq import JOB_OPTIONS
from mauntic_jobs.stores.bullmq_scripts import Taken

_ITERATION = re.compile(r"repeat:.*:(\d{1,14})")
_LONGEST_DELAY = 7 * 86_400_000
_MOST_ATTEMPTS = 100
# Lua counts exactly up to here.
_LARGEST = 2**53


class UnrecoverableError(Exception):
    """A job that need not be tried again."""


class GiveBackError(Exception):
    """The job was not done and nothing failed: somebody else may take it."""


@dataclass(frozen=True)
class ReceivedJob:
    """A job of a queue. `due` is when it was to be run: its slot, if a job scheduler made it, aware, in UTC.

    `attempts_made` are those that failed before this one, `attempts` how many it has in all. `options` are the job's
    own as BullMQ stores them; `scheduler` the id of the job scheduler that made it. `policy` holds the options that a
    job without its own goes by, in BullMQ's terms. `retried` is when somebody last asked for it again after it had
    failed, or None.
    """

    id: str
    name: str
    data: Mapping[str, Any]
    due: datetime
    attempts_made: int
    attempts: int
    options: Mapping[str, Any]
    scheduler: str | None = None
    policy: Mapping[str, Any] = field(default_factory=lambda: JOB_OPTIONS)
    retried: datetime | None = None

    @property
    def last_attempt(self) -> bool:
        """Whether the job fails for good if this attempt fails."""
        return self.attempts_made + 1 >= self.attempts

    def retry_delay(self) -> timedelta:
        """Return the wait before the next attempt: the job's own backoff, or the platform's 1 s, 2 s, 4 s."""
        backoff = self.options.get("backoff")
        if isinstance(backoff, int):
            backoff = {"type": "fixed", "delay": backoff}
        if not isinstance(backoff, dict) or backoff.get("type") not in ("fixed", "exponential"):
            backoff = self.policy["backoff"]
        delay = backoff.get("delay")
        base = delay if isinstance(delay, int) and delay >= 0 else self.policy["backoff"]["delay"]
        doubled = base * 2 ** min(max(self.attempts_made, 0), 30) if backoff["type"] == "exponential" else base
        return timedelta(milliseconds=min(doubled, _LONGEST_DELAY))

    def kept(self, *, failed: bool) -> Mapping[str, float]:
        """Return how many finished jobs stay, in BullMQ's terms: by the job, or completed ones for an hour."""
        name = "removeOnFail" if failed else "removeOnComplete"
        keep = self.options.get(name)
        keep = self.policy[name] if keep is None else keep
        if isinstance(keep, bool):
            return {"count": 0 if keep else -1}
        if isinstance(keep, int):
            return {"count": max(-1, min(keep, _LARGEST))}
        given = keep if isinstance(keep, dict) else {}
        # BullMQ's script fails on anything else, and the job would never end.
        numbers = {name: given[name] for name in ("age", "count", "limit") if _is_number(given.get(name))}
        return {name: int(min(number, _LARGEST)) for name, number in numbers.items() if number >= 0}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def slot_of(job: str) -> datetime | None:
    """Return the instant that a job scheduler made the job of this id for, aware, in UTC; None for other jobs."""
    iteration = _ITERATION.fullmatch(job)
    return datetime.fromtimestamp(int(iteration[1]) / 1000, UTC) if iteration else None


def received(taken: Taken, policy: Mapping[str, Any] = JOB_OPTIONS) -> ReceivedJob:
    """Return the job as what it says of itself. Raises UnrecoverableError that says what cannot be read."""
    try:
        data, options = json.loads(taken.fields["data"]), json.loads(taken.fields.get("opts") or "{}")
        name, timestamp = taken.fields["name"], int(taken.fields["timestamp"])
        made = int(taken.fields.get("atm") or taken.fields.get("attemptsMade") or 0)
        delay = options.get("delay") if isinstance(options, dict) else None
        due = timestamp + (delay if isinstance(delay, int) else 0)
        due_at = slot_of(taken.id) or datetime.fromtimestamp(due / 1000, UTC)
        retried = taken.fields.get("retriedOn")
        retried_at = datetime.fromtimestamp(int(retried) / 1000, UTC) if retried else None
    except (KeyError, ValueError, OverflowError, OSError, RecursionError) as error:
        raise UnrecoverableError(f"the job cannot be read: {type(error).__name__}: {error}") from None
    data = {} if data is None else data
    if not isinstance(data, dict) or not isinstance(options, dict):
        raise UnrecoverableError("the job cannot be read: its data and options must be JSON objects")
    attempts = options.get("attempts")
    if not isinstance(attempts, int) or isinstance(attempts, bool) or not 0 < attempts <= _MOST_ATTEMPTS:
        attempts = policy["attempts"]
    scheduler = taken.fields.get("rjk") or None
    return ReceivedJob(taken.id, name, data, due_at, made, attempts, options, scheduler, policy, retried_at)
