"""The delivery queues in Redis: where they are, and how long."""

import asyncio
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from typing import cast

from mauntic_jobs.delivery.channels import CHANNELS
from mauntic_jobs.job import Row
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.settings.types import ChannelSettings
from mauntic_jobs.stores.bullmq.enqueue import JOB_OPTIONS, QueueJob, add_jobs
from mauntic_jobs.stores.redis.async_link import RedisLink
from mauntic_jobs.stores.redis.client import RedisScripts

# The second number is that of a repetition, where a job with the first alone has ended.
_OWN_JOB = re.compile(r"(d[0-9a-f]{24}-[0-9]+)(?:-([0-9]+))?")
_LISTS = {"waiting": "wait", "prioritized": "prioritized", "delayed": "delayed", "active": "active", "failed": "failed"}


def settings_of(settings: Settings, channel: str) -> ChannelSettings:
    """Return what is set for a channel."""
    return cast("Mapping[str, ChannelSettings]", settings.channels).get(channel, ChannelSettings())


def base_of(settings: Settings, channel: str) -> str:
    """Return the prefix and name of a channel's queue, as its keys in Redis begin."""
    own = settings_of(settings, channel)
    return f"{own.prefix or settings.queue_prefix}:{own.queue or CHANNELS[channel].queue}"


def policy_of(settings: Settings, channel: str) -> dict[str, object]:
    """Return the options of jobs that have none of their own, in BullMQ's terms."""
    own, policy = settings_of(settings, channel), dict(JOB_OPTIONS)
    if own.attempts is not None:
        policy["attempts"] = own.attempts
    if own.retry_delay is not None:
        policy["backoff"] = {"type": "exponential", "delay": own.retry_delay // timedelta(milliseconds=1)}
    return policy


def job_id_of(row: Row, fence: int) -> str:
    """Return the id of a job for a delivery, which BullMQ takes once for each claim."""
    name = f"{row['organization_id']}:{row['delivery_id']}"
    return f"d{sha256(name.encode()).hexdigest()[:24]}-{fence}"


def next_job_id(row: Row, fence: int, job: str) -> str:
    """Return the id of a job that asks for a delivery after `job`, which has ended or is lost."""
    first = job_id_of(row, fence)
    known = _OWN_JOB.fullmatch(job)
    return f"{first}-{int(known[2] or 1) + 1}" if known and known[1] == first else first


def is_own_job(name: str) -> bool:
    """Return whether a job's id is one of `job_id_of`: the ledger knows its delivery."""
    return _OWN_JOB.fullmatch(name) is not None


def add_payloads(
    redis: RedisScripts, settings: Settings, channel: str, payloads: Mapping[str, Mapping[str, object]], now: datetime
) -> None:
    """Put messages on the queue of a channel, by the ids of their jobs."""
    if payloads:
        prefix, _, queue = base_of(settings, channel).partition(":")
        jobs = [QueueJob(queue, job, queue.rpartition(":")[2], payload) for job, payload in payloads.items()]
        add_jobs(redis, prefix, jobs, int(now.timestamp() * 1000))


async def lengths(redis: RedisLink, base: str) -> dict[str, int]:
    """Return how many jobs each list of a queue holds. What would be waiting is `paused` in a queue that is."""
    commands = ["LLEN" if name in ("wait", "active") else "ZCARD" for name in _LISTS.values()]
    *answers, put_aside, is_paused = await asyncio.gather(
        *(redis.command(command, f"{base}:{name}") for command, name in zip(commands, _LISTS.values(), strict=True)),
        # BullMQ 5 moves the waiting jobs of a paused queue there, 6 leaves them where they are.
        redis.command("LLEN", f"{base}:paused"),
        redis.command("HEXISTS", f"{base}:meta", "paused"),
    )
    jobs = dict(zip(_LISTS, answers, strict=True))
    held = {name: jobs[name] for name in ("waiting", "prioritized")} if is_paused else {}
    return {**jobs, **dict.fromkeys(held, 0), "paused": put_aside + sum(held.values())}
