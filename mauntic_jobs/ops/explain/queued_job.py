"""The job of a delivery on the delivery queues, found by its id or by what its data says."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from mauntic_jobs.delivery.channels import CHANNELS
from mauntic_jobs.delivery.queues import base_of
from mauntic_jobs.redaction.payloads import mask_text
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.redis.client import RedisScripts
from mauntic_jobs.timekeeping.epoch import instant_of

# So many jobs of a state are searched for a delivery whose job is not known otherwise.
MAX_SEARCHED = 100_000
_PAGE = 1000
_SEARCHED = (("LRANGE", "wait"), ("ZRANGE", "prioritized"), ("ZRANGE", "delayed"), ("LRANGE", "active"))


@dataclass(frozen=True)
class QueuedJob:
    """A job on the queue of a channel: whose it is, when it was taken last, and its latest error without names."""

    channel: str
    base: str
    id: str
    organization: UUID | None
    taken_at: datetime | None
    error: str


def find_job(redis: RedisScripts, settings: Settings, ids: Sequence[str]) -> QueuedJob | None:
    """Return the first job that has one of these ids on a delivery queue."""
    for channel in CHANNELS:
        base = base_of(settings, channel)
        for job in ids:
            if redis.command("EXISTS", f"{base}:{job}"):
                return _read(redis, channel, base, job)
    return None


def search_job(redis: RedisScripts, settings: Settings, delivery: str, organization: UUID | None) -> QueuedJob | None:
    """Return the first job whose data names a delivery, of an organization if one is given."""
    word = json.dumps(delivery).encode()
    for channel in CHANNELS:
        base = base_of(settings, channel)
        for page in _pages(redis, base):
            data = redis.commands([("HGET", f"{base}:{job}", "data") for job in page])
            named = [job for job, text in zip(page, data, strict=True) if text and word in text]
            for job in named:
                found = _read(redis, channel, base, job)
                if organization in (None, found.organization):
                    return found
    return None


def _pages(redis: RedisScripts, base: str) -> Iterator[list[str]]:
    for command, key in _SEARCHED:
        for start in range(0, MAX_SEARCHED, _PAGE):
            found = redis.command(command, f"{base}:{key}", start, start + _PAGE - 1)
            if not found:
                break
            yield [job.decode(errors="surrogateescape") for job in found]


def _read(redis: RedisScripts, channel: str, base: str, job: str) -> QueuedJob:
    data, taken, error = redis.command("HMGET", f"{base}:{job}", "data", "processedOn", "failedReason")
    organization = None
    with suppress(ValueError, TypeError, KeyError, RecursionError, AttributeError):
        organization = UUID(json.loads(data)["organizationId"])
    at = instant_of(float(taken)) if taken else None
    return QueuedJob(channel, base, job, organization, at, mask_text((error or b"").decode(errors="replace")))
