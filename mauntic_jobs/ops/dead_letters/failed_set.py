"""The failed jobs of a BullMQ queue: reading them in pages, retrying and removing them.

`base` is the queue's prefix and name, times are milliseconds since 1970. Versions 5 and 6 of Node's BullMQ write the
same fields. Scripts that change something are BullMQ's own.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from mauntic_jobs.lua import script
from mauntic_jobs.stores.bullmq.enqueue import official_script
from mauntic_jobs.stores.redis.client import Call, RedisScripts
from mauntic_jobs.timekeeping.epoch import instant_of, milliseconds

_PAGE = 250
# Jobs whose fields one call of the script returns, so that no call holds up others.
_AT_ONCE = 25

# The answers of the scripts that retry and remove.
DONE, GONE, NOT_FAILED, OF_SCHEDULER = 1, -1, -3, -8


class FailedJob(NamedTuple):
    """A failed job: its id, when it failed, and the fields that were asked for, as they stand in Redis."""

    id: str
    failed_at: float
    fields: dict[str, str]


def failed_jobs(
    redis: RedisScripts, base: str, fields: Sequence[str], *, since: float, until: float, newest_first: bool = False
) -> Iterator[list[FailedJob]]:
    """Yield the jobs that failed from `since` to `until`, both included, in pages, by time and id.

    What is retried or removed between two pages keeps no other job from being found.
    """
    seen: tuple[float, bytes] | None = None
    while page := _page(redis, base, (since, until), seen, newest_first=newest_first):
        seen = page[-1]
        yield read_jobs(redis, base, page, fields)


def count_failed(redis: RedisScripts, bases: Sequence[str], since: datetime) -> list[tuple[int, int, datetime | None]]:
    """Return for each queue how many jobs have failed, how many of them after `since`, and when the oldest did."""
    after = f"({milliseconds(since)}"
    commands: list[tuple[str | int, ...]] = []
    for base in bases:
        key = f"{base}:failed"
        commands += [("ZCARD", key), ("ZCOUNT", key, after, "+inf"), ("ZRANGE", key, 0, 0, "WITHSCORES")]
    answers = redis.commands(commands)
    return [
        (depth, recent, instant(float(oldest[1])) if oldest else None)
        for depth, recent, oldest in zip(answers[::3], answers[1::3], answers[2::3], strict=True)
    ]


def instant(score: float) -> datetime:
    """Return a time that Redis holds, aware, in UTC; 1970 for one that cannot be meant."""
    try:
        return instant_of(score)
    except (ValueError, OverflowError):
        return instant_of(0)


def failure_of(redis: RedisScripts, base: str, job: str) -> float | None:
    """Return when a job failed, or None if it is not among the failed."""
    score = redis.command("ZSCORE", f"{base}:failed", job)
    return None if score is None else float(score)


def read_jobs(
    redis: RedisScripts, base: str, jobs: Sequence[tuple[float, bytes]], fields: Sequence[str]
) -> list[FailedJob]:
    """Return the fields of jobs, given as the time of failure and the id of each."""
    groups = [jobs[start : start + _AT_ONCE] for start in range(0, len(jobs), _AT_ONCE)]
    calls = [([f"{base}:{job.decode(errors='surrogateescape')}" for _, job in group], list(fields)) for group in groups]
    rows = [row for answer in redis.run(script("job_fields"), calls) for row in answer]
    return [
        FailedJob(
            job.decode(errors="surrogateescape"),
            failed_at,
            {name: value.decode(errors="replace") for name, value in zip(fields, row, strict=True) if value},
        )
        for (failed_at, job), row in zip(jobs, rows, strict=True)
    ]


def retry(redis: RedisScripts, base: str, jobs: Sequence[tuple[str, float]], now: int) -> list[int]:
    """Put failed jobs back on their queue with all their attempts; each is given with the time of its failure.

    Returns DONE for each, or GONE, or NOT_FAILED for one that was retried, or has failed again, meanwhile.
    """
    names = ("events", "failed", "wait", "meta", "active", "marker", "prioritized", "pc", "failed")
    guarded = script("as_it_failed") + official_script("reprocessJob-9")
    calls: list[Call] = [
        (
            [f"{base}:{job}", *(f"{base}:{name}" for name in names)],
            [job, "LPUSH", "failedReason", "failed", "1", "1", repr(failed_at), now],
        )
        for job, failed_at in jobs
    ]
    return redis.run(guarded, calls)


def remove(redis: RedisScripts, base: str, jobs: Sequence[tuple[str, float]]) -> list[int]:
    """Remove failed jobs, with all that belongs to them.

    Returns DONE for each, NOT_FAILED for one that was retried meanwhile, OF_SCHEDULER for a job scheduler's next job.
    """
    guarded = script("as_it_failed") + official_script("removeJob-2")
    calls = [
        ([f"{base}:{job}", f"{base}:repeat", f"{base}:failed"], [job, "0", f"{base}:", repr(failed_at), ""])
        for job, failed_at in jobs
    ]
    return redis.run(guarded, calls)


def stack_traces(fields: dict[str, str]) -> list[str]:
    """Return what BullMQ has kept of a job's attempts, oldest first: the error of each, with its stack."""
    try:
        traces = json.loads(fields.get("stacktrace") or "[]")
    except ValueError:
        return []
    return [str(trace) for trace in traces if trace] if isinstance(traces, list) else []


def _page(
    redis: RedisScripts,
    base: str,
    between: tuple[float, float],
    seen: tuple[float, bytes] | None,
    *,
    newest_first: bool,
) -> list[tuple[float, bytes]]:
    """Return the jobs that follow the last one seen; Redis sorts those of the same time by id."""
    lowest, highest = between
    if seen is not None:
        lowest, highest = (lowest, seen[0]) if newest_first else (seen[0], highest)
    command, bounds = ("ZREVRANGEBYSCORE", (highest, lowest)) if newest_first else ("ZRANGEBYSCORE", (lowest, highest))
    most = _PAGE
    while True:
        words = redis.command(command, f"{base}:failed", *map(repr, bounds), "WITHSCORES", "LIMIT", 0, most)
        jobs = [(float(score), job) for job, score in zip(words[::2], words[1::2], strict=True)]
        fresh = [each for each in jobs if seen is None or (each < seen if newest_first else each > seen)]
        if fresh or len(jobs) < most:
            return fresh
        most *= 4
