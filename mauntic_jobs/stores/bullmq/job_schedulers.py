"""BullMQ's job schedulers, which add a job to a queue at each instant of a cron line, by BullMQ's own scripts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import msgpack

from mauntic_jobs.errors import JobFailedError
from mauntic_jobs.stores.bullmq.enqueue import JOB_OPTIONS, official_script
from mauntic_jobs.stores.redis.client import RedisScripts

_ADDED_TO = ("repeat", "delayed", "wait", "paused", "meta", "prioritized", "marker", "id", "events", "pc", "active")


@dataclass(frozen=True)
class Scheduler:
    """A job scheduler as it stands in Redis: its cron line, zone, the name and data of its jobs."""

    pattern: str
    zone: str
    name: str
    data: Mapping[str, object]


def scheduler_names(redis: RedisScripts, key: str) -> list[str]:
    """Return the names of all job schedulers of a queue, and of what version 4 repeats without a scheduler."""
    return [name.decode(errors="surrogateescape") for name in redis.command("ZRANGE", f"{key}:repeat", 0, -1)]


def read_scheduler(redis: RedisScripts, key: str, scheduler: str) -> Scheduler | None:
    """Return a scheduler of the queue whose prefix and name are `key`, or None; what it lacks is empty."""
    found = redis.command("HGETALL", f"{key}:repeat:{scheduler}")
    fields = {name.decode(): value.decode(errors="replace") for name, value in found.items()}
    if not fields:
        return None
    data = json.loads(fields.get("data") or "{}")
    named = {name: fields.get(name, "") for name in ("pattern", "tz", "name")}
    return Scheduler(named["pattern"], named["tz"], named["name"], data if isinstance(data, dict) else {})


def has_next(redis: RedisScripts, key: str, scheduler: str) -> bool:
    """Return whether a scheduler's next job is there. Without it the one after it would never be made."""
    at = redis.command("ZSCORE", f"{key}:repeat", scheduler)
    if at is None:
        return False
    name, finished = redis.command("HMGET", f"{key}:repeat:{scheduler}:{int(float(at))}", "name", "finishedOn")
    return name is not None and finished is None


def add_scheduler(redis: RedisScripts, key: str, scheduler: str, wanted: Scheduler, following: int, now: int) -> None:
    """Add a scheduler, or replace it, with its first iteration at `following`, in milliseconds since 1970."""
    repeat = {"pattern": wanted.pattern, "tz": wanted.zone, "count": 1}
    iteration = {
        **JOB_OPTIONS,
        "repeat": repeat,
        "jobId": f"repeat:{scheduler}:{following}",
        "delay": max(0, following - now),
        "timestamp": now,
        "prevMillis": following,
        "repeatJobKey": scheduler,
    }
    arguments = [
        following,
        msgpack.packb({"name": wanted.name, "tz": wanted.zone, "pattern": wanted.pattern}),
        scheduler,
        json.dumps(wanted.data, separators=(",", ":")),
        msgpack.packb(JOB_OPTIONS),
        msgpack.packb(iteration),
        now,
        f"{key}:",
        "",
    ]
    keys = [f"{key}:{name}" for name in _ADDED_TO]
    (answer,) = redis.run(official_script("addJobScheduler-11"), [(keys, arguments)])
    if isinstance(answer, int):
        raise JobFailedError(f"BullMQ refused the job scheduler {scheduler} on {key} (code {answer}).")


def remove_scheduler(redis: RedisScripts, key: str, scheduler: str) -> None:
    """Remove a scheduler and its next iteration, if there is one; also what version 4 repeats without a scheduler."""
    keys = [f"{key}:{name}" for name in ("repeat", "delayed", "events")]
    redis.run(official_script("removeJobScheduler-3"), [(keys, [scheduler, f"{key}:"])])
    # Version 4 names the next iteration otherwise than the script expects.
    for job in redis.command("ZRANGE", f"{key}:delayed", 0, -1):
        name = job.decode(errors="surrogateescape")
        if redis.command("HGET", f"{key}:{name}", "rjk") == scheduler.encode(errors="surrogateescape"):
            redis.run(official_script("removeJob-2"), [([f"{key}:{name}", f"{key}:repeat"], [name, 0, f"{key}:"])])
