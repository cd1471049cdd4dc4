"""The calls of BullMQ's own Lua scripts that a consumer makes, whatever connection they are made on.

Each function returns the script's name and the keys and arguments of one call; the scripts themselves come from
`official_script`. `base` is the queue's prefix and name, times are milliseconds since 1970.
The scripts' answers below zero: -1 the job is gone, -2 its lock is, -3 it is not active, -6 the lock is another's.
"""

import json
import time
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import msgpack

# As long as Node's workers.
LOCK_MILLISECONDS = 30_000

# Scripts that a consumer calls.
SCRIPTS = (
    *("moveToActive-11", "moveToFinished-14", "moveToDelayed-11", "moveJobFromActiveToWait-9", "extendLock-2"),
    *("moveStalledJobsToWait-9", "updateJobScheduler-12"),
)

# A script that an operator's command calls.
PROMOTE = "promote-9"

# What is written for many jobs alike, by the token of the slot that they are taken in, is kept for so many.
_KEPT = 1_024

# How many words a script of BullMQ's answers with that takes a job.
_PLAIN_ANSWER = 4

# The answers of a script that finds no such job, and one without a lock.
JOB_GONE, LOCK_GONE = -1, -2

# A job whose worker died is no worse for it, however often that happens.
_ANY_NUMBER_OF_STALLS = 2**31 - 1
_MOVING = ("wait", "active", "prioritized", "events", "stalled", "limiter", "delayed", "paused", "meta", "pc")


class ScriptCall(NamedTuple):
    """One call of a script."""

    script: str
    keys: list[str]
    arguments: list[Any]


class Turn(NamedTuple):
    """Why a job was taken now: its lane and provider, and its organization's limits, as `admission.lua` has them.

    `provider` is empty where nothing limits the organization. The message is to be sent so many `seconds` after the job
    was taken, which `starts` is by the monotonic clock.
    """

    lane: str
    provider: str
    seconds: float
    limits: str
    starts: float = 0.0

    @property
    def seconds_left(self) -> float:
        """For how long the message has to wait now, below 0 once its turn has come."""
        return self.starts - time.monotonic()


class Taken(NamedTuple):
    """A job that was taken: its id, the fields of its hash as they stand in Redis, and its turn, if it had one."""

    id: str
    fields: Mapping[str, str]
    turn: Turn | None = None


def take(base: str, token: str, now: int) -> ScriptCall:
    """Take the next job and lock it; jobs whose delay is over are promoted first. `taken` reads the answer."""
    return _call("moveToActive-11", base, [*_MOVING, "marker"], [f"{base}:", now, _lock_options(token)])


def taken(answer: object) -> Taken | None:
    """Return the job that the answer of a script brings along, or None."""
    if not isinstance(answer, list) or not isinstance(answer[0], list):
        return None
    words = [word.decode(errors="replace") for word in answer[0]]
    turn = None
    if len(answer) > _PLAIN_ANSWER:
        lane, provider, microseconds, limits = (word.decode(errors="replace") for word in answer[_PLAIN_ANSWER:])
        seconds = int(microseconds) / 1_000_000
        turn = Turn(lane, provider, seconds, limits, time.monotonic() + seconds)
    # An id may be any bytes; the connections write it as it was read.
    return Taken(answer[1].decode(errors="surrogateescape"), dict(zip(words[::2], words[1::2], strict=True)), turn)


def printable_id(job: str) -> str:
    """Return a job's id as text for logs and for Postgres: bytes that are not UTF-8 are written as escapes."""
    return job.encode(errors="surrogateescape").decode(errors="backslashreplace")


def next_due(answer: object, now: int) -> int | None:
    """Return when a job may be there, by an answer that brings none along; 0 if none is to be expected.

    That is when the next delayed job is due, or the queue's rate limit ends. None where the answer is to a script that
    did not look.
    """
    if not isinstance(answer, list):
        return None
    limited = int(float(answer[2]))
    return now + limited if limited > 0 else int(float(answer[3]))


def finish(
    base: str,
    token: str,
    job: str,
    now: int,
    *,
    failed: bool,
    value: str,
    keep: Mapping[str, float],
    attempts: int,
    fields: Mapping[str, str | int] = MappingProxyType({}),
    fetch_next: bool = False,
) -> ScriptCall:
    """Move a job to `completed` or `failed`, with its value or reason; with `fetch_next`, take the next one.

    `fields` are written into its hash.
    """
    target, prop = ("failed", "failedReason") if failed else ("completed", "returnvalue")
    options = _finish_options(token, tuple(keep.items()), attempts)
    keys = [*_names(base, *_MOVING, target), f"{base}:{job}", *_names(base, f"metrics:{target}", "marker")]
    fetch = "1" if fetch_next else ""
    arguments = [job, now, prop, value, target, fetch, f"{base}:", options, _packed_fields(fields)]
    return ScriptCall("moveToFinished-14", keys, arguments)


def delay(
    base: str,
    token: str,
    job: str,
    now: int,
    milliseconds: int,
    reason: str,
    *,
    spend_attempt: bool = True,
    fields: Mapping[str, str | int] = MappingProxyType({}),
    fetch_next: bool = False,
) -> ScriptCall:
    """Try the job again after a delay, and spend an attempt or not; with `fetch_next`, take the next one.

    The reason becomes the job's. `fields` are written into its hash.
    """
    keys = ["marker", "active", "prioritized", "delayed", job, "events", "meta", "stalled", "wait", "limiter", "pc"]
    fields = {**fields, "failedReason": reason, "stacktrace": json.dumps([reason])}
    skip, fetch = "0" if spend_attempt else "1", "1" if fetch_next else "0"
    arguments = [f"{base}:", now, job, token, milliseconds, skip, _packed_fields(fields), fetch, _lock_options(token)]
    return _call("moveToDelayed-11", base, keys, arguments)


def give_back(base: str, token: str, job: str) -> ScriptCall:
    """Put a job back in front of the queue, without spending an attempt."""
    keys = ["active", "wait", "stalled", "paused", "meta", "limiter", "prioritized", "marker", "events"]
    return _call("moveJobFromActiveToWait-9", base, keys, [job, token, f"{base}:{job}"])


def promote(base: str, job: str) -> ScriptCall:
    """Let a delayed job be taken now; the answer is -3 if it is not delayed."""
    keys = ["delayed", "wait", "paused", "meta", "prioritized", "active", "pc", "events", "marker"]
    return _call(PROMOTE, base, keys, [f"{base}:", job])


def extend(base: str, token: str, job: str) -> ScriptCall:
    """Renew a lock; the answer is 1 if it is still this consumer's."""
    return _call("extendLock-2", base, [f"{job}:lock", "stalled"], [token, LOCK_MILLISECONDS, job])


def recover(base: str, now: int, interval: int = LOCK_MILLISECONDS) -> ScriptCall:
    """Put jobs back whose worker has died. To be called once in an interval: a job is found at the second call."""
    keys = ["stalled", "wait", "active", "stalled-check", "meta", "paused", "marker", "events", "repeat"]
    return _call("moveStalledJobsToWait-9", base, keys, [_ANY_NUMBER_OF_STALLS, f"{base}:", now, interval])


def iterate(base: str, job: str, scheduler: str, following: int, options: Mapping[str, object], now: int) -> ScriptCall:
    """Add the iteration of a job scheduler that follows `job`, unless it is there or the scheduler is gone."""
    names = ["repeat", "delayed", "wait", "paused", "meta", "prioritized", "marker", "id", "events", "pc"]
    arguments = [following, scheduler, "{}", msgpack.packb(dict(options)), now, f"{base}:", job]
    return _call("updateJobScheduler-12", base, [*names, job, "active"], arguments)


def lock_again(base: str, token: str, job: str) -> tuple[str | int, ...]:
    """Return the command that locks a job whose lock has run out, unless another consumer has it."""
    return ("SET", f"{base}:{job}:lock", token, "NX", "PX", LOCK_MILLISECONDS)


def code(answer: object) -> int:
    """Return 0, or the answer below zero."""
    return answer if isinstance(answer, int) and answer < 0 else 0


def _packed_fields(fields: Mapping[str, str | int]) -> bytes:
    packed: bytes = msgpack.packb([word for pair in fields.items() for word in pair]) if fields else b""
    return packed


@lru_cache(_KEPT)
def _finish_options(token: str, keep: tuple[tuple[str, float], ...], attempts: int) -> bytes:
    options = {"token": token, "keepJobs": dict(keep), "attempts": attempts, "maxMetricsSize": ""}
    options |= {"lockDuration": LOCK_MILLISECONDS, "fpof": False, "cpof": False, "idof": False, "rdof": False}
    packed: bytes = msgpack.packb(options)
    return packed


@lru_cache(_KEPT)
def _names(base: str, *keys: str) -> tuple[str, ...]:
    return tuple(f"{base}:{key}" for key in keys)


@lru_cache(_KEPT)
def _lock_options(token: str) -> bytes:
    packed: bytes = msgpack.packb({"token": token, "lockDuration": LOCK_MILLISECONDS})
    return packed


def _call(script: str, base: str, keys: list[str], arguments: list[object]) -> ScriptCall:
    return ScriptCall(script, [f"{base}:{key}" for key in keys], arguments)
