"""The queues whose failed jobs are looked after: those that messages, scheduled jobs and journey steps wait on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mauntic_jobs.delivery.channels import CHANNELS
from mauntic_jobs.delivery.queues import base_of
from mauntic_jobs.errors import UsageError
from mauntic_jobs.job import Job
from mauntic_jobs.jobs.registry import jobs
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.redis.client import RedisScripts

# Whose jobs the platform's own executor runs.
_OTHERS = ("journey:execute-step",)


@dataclass(frozen=True)
class WatchedQueue:
    """A queue: its `base` is what its keys begin with. `channel` or `jobs` tell what it carries, if that is known."""

    name: str
    base: str
    channel: str | None = None
    jobs: tuple[Job[Any], ...] = ()


def platform_queues(settings: Settings) -> list[WatchedQueue]:
    """Return every queue of the platform."""
    found: dict[str, WatchedQueue] = {}
    for channel in CHANNELS:
        base = base_of(settings, channel)
        found[base] = WatchedQueue(base.partition(":")[2], base, channel=channel)
    for job in jobs().values():
        base = f"{settings.queue_prefix}:{job.queue}"
        known = found.get(base, WatchedQueue(job.queue, base))
        found[base] = WatchedQueue(known.name, base, known.channel, (*known.jobs, job.configured(settings)))
    for name in _OTHERS:
        base = f"{settings.queue_prefix}:{name}"
        found.setdefault(base, WatchedQueue(name, base))
    return list(found.values())


def chosen_queues(redis: RedisScripts, settings: Settings, names: Sequence[str]) -> list[WatchedQueue]:
    """Return the queues of these names, the platform's or others with the same prefix. Raises UsageError."""
    known = {queue.name: queue for queue in platform_queues(settings)}
    found = []
    for name in names:
        base = f"{settings.queue_prefix}:{name}"
        if name not in known and not redis.command("EXISTS", f"{base}:meta", f"{base}:failed"):
            raise UsageError(f"There is no queue {name}. The platform's are: {', '.join(known)}.")
        found.append(known.get(name) or WatchedQueue(name, base))
    return found
