"""Additions of jobs to BullMQ queues, with the official Lua script.

The script is read from the `bullmq` package, the official port, whose Lua is that of Node's; the package itself is not
imported, because its queue is asynchronous and takes a third of a second to load.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

from mauntic_jobs.errors import ConfigurationError, JobFailedError
from mauntic_jobs.job import Scripts

_STANDARD = "addStandardJob-9"
_KEYS = {
    _STANDARD: ("wait", "paused", "meta", "id", "completed", "delayed", "active", "events", "marker"),
    "addPrioritizedJob-9": ("marker", "meta", "id", "prioritized", "delayed", "completed", "active", "events", "pc"),
}

# The platform's policy for every queue.
JOB_OPTIONS: dict[str, object] = {
    "attempts": 4,
    "backoff": {"type": "exponential", "delay": 1000},
    "removeOnComplete": {"age": 3600},
    "removeOnFail": False,
}


class QueueJob(NamedTuple):
    """A job to add. `queue` is the queue's name without its prefix; BullMQ adds each `id` once.

    Jobs with a `priority` wait until no job without one does; 1 comes before 2.
    """

    queue: str
    id: str
    name: str
    data: Mapping[str, Any]
    priority: int = 0


def add_jobs(redis: Scripts, prefix: str, jobs: Sequence[QueueJob], timestamp: int) -> None:
    """Add jobs to their queues; those that are there already stay as they are.

    `timestamp` is the time of adding in milliseconds since 1970. Raises what the store raises.
    """
    refused: list[str] = []
    for script in _KEYS:
        chosen = [job for job in jobs if (script == _STANDARD) == (job.priority == 0)]
        results = redis.run(official_script(script), [_call(prefix, job, timestamp, script) for job in chosen])
        answered = zip(chosen, results, strict=True)
        refused += [job.id for job, result in answered if isinstance(result, int) and result < 0]
    if refused:
        raise JobFailedError(f"BullMQ refused {len(refused)} jobs, the first of them {refused[0]}.")


def _call(prefix: str, job: QueueJob, timestamp: int, script: str) -> tuple[list[str], list[Any]]:
    base = f"{prefix}:{job.queue}:"
    # Without a parent, a repeat key or a deduplication key.
    arguments = msgpack.packb([base, job.id, job.name, timestamp, None, None, None, None, None])
    data = json.dumps(job.data, separators=(",", ":"), allow_nan=False)
    own = {"priority": job.priority} if job.priority else {}
    options = msgpack.packb({**JOB_OPTIONS, "timestamp": timestamp, "jobId": job.id, **own})
    return [base + key for key in _KEYS[script]], [arguments, data, options]


@cache
def official_script(name: str) -> bytes:
    """Return one of BullMQ's own Lua scripts: the same text that Node's BullMQ runs."""
    spec = find_spec("bullmq")
    if spec is None or spec.origin is None:
        raise ConfigurationError("The package bullmq is not installed: install mauntic-jobs with its requirements.")
    return (Path(spec.origin).parent / "commands" / f"{name}.lua").read_bytes()
