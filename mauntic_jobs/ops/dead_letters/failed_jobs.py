"""The dead letters of the queues: what BullMQ keeps of a failed job, read as one."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime

from mauntic_jobs.ops.dead_letters.dead_letter import DeadLetter
from mauntic_jobs.ops.dead_letters.error_fingerprint import fingerprint
from mauntic_jobs.ops.dead_letters.failed_set import FailedJob, failed_jobs, failure_of, instant, read_jobs
from mauntic_jobs.ops.queues import PlatformQueue
from mauntic_jobs.stores.bullmq.job import integer_in
from mauntic_jobs.stores.redis.client import RedisScripts
from mauntic_jobs.timekeeping.epoch import milliseconds

FIELDS = ("name", "timestamp", "failedReason", "atm", "attemptsMade")
PAYLOAD = ("data",)
DETAILS = ("opts", "stacktrace", "processedOn", "rjk")

_UNKNOWN = "(no reason was given)"


def walk(
    redis: RedisScripts,
    queue: PlatformQueue,
    since: datetime | None,
    until: datetime,
    *,
    payloads: bool,
    newest_first: bool = False,
) -> Iterator[DeadLetter]:
    """Yield the failed jobs of a queue, page by page, so that a million take no more memory than a few."""
    fields = (*FIELDS, *PAYLOAD) if payloads else FIELDS
    between = {"since": milliseconds(since) if since else 0, "until": milliseconds(until)}
    for page in failed_jobs(redis, queue.base, fields, **between, newest_first=newest_first):
        for job in page:
            yield as_letter(queue, job)


def find(redis: RedisScripts, queue: PlatformQueue, job: str) -> DeadLetter | None:
    """Return a failed job with its payload, or None if it is not among the failed."""
    found = raw(redis, queue, job, (*FIELDS, *PAYLOAD))
    return as_letter(queue, found) if found else None


def raw(redis: RedisScripts, queue: PlatformQueue, job: str, fields: tuple[str, ...]) -> FailedJob | None:
    """Return a failed job as it stands in Redis, or None."""
    failed_at = failure_of(redis, queue.base, job)
    return None if failed_at is None else read_jobs(redis, queue.base, [(failed_at, job.encode())], fields)[0]


def as_letter(queue: PlatformQueue, job: FailedJob) -> DeadLetter:
    """Return a failed job as a dead letter."""
    fields = job.fields
    error = fields.get("failedReason") or _UNKNOWN
    payload = _payload(fields.get("data"))
    return DeadLetter(
        queue=queue.name,
        id=job.id,
        name=fields.get("name", ""),
        error=error,
        fingerprint=fingerprint(queue.name, error),
        attempts=integer_in(fields.get("atm") or fields.get("attemptsMade")) or 0,
        failed_at=instant(job.failed_at),
        added_at=instant(integer_in(fields.get("timestamp")) or job.failed_at),
        score=job.failed_at,
        channel=_channel(queue, payload),
        payload=payload,
    )


def _payload(data: str | None) -> Mapping[str, object] | None:
    if not data:
        return None
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _channel(queue: PlatformQueue, payload: Mapping[str, object] | None) -> str | None:
    """Return the channel of a delivery: the queue's, unless the payload names another."""
    named = (payload or {}).get("channel")
    return named if queue.channel and isinstance(named, str) and named else queue.channel
