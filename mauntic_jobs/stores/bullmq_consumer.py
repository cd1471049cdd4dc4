"""Taking jobs from a BullMQ queue and giving them back finished, by BullMQ's own scripts.

The scripts' answers below zero: -1 the job is gone, -2 its lock is, -3 it is not active, -6 the lock is another's.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import msgpack

from mauntic_jobs.stores.bullmq import official_script
from mauntic_jobs.stores.redis import RedisScripts

# As long as Node's workers.
LOCK_MILLISECONDS = 30_000

# The answer of a script that finds a job without a lock.
LOCK_GONE = -2

# A job whose worker died is no worse for it, however often that happens.
_ANY_NUMBER_OF_STALLS = 2**31 - 1
_MOVING = ("wait", "active", "prioritized", "events", "stalled", "limiter", "delayed", "paused", "meta", "pc")


@dataclass(frozen=True)
class Taken:
    """A job that was taken: its id, and the fields of its hash as they stand in Redis."""

    id: str
    fields: Mapping[str, str]


@dataclass
class QueueConsumer:
    """One consumer of one queue. `key` is the queue's prefix and name; times are milliseconds since 1970.

    `next_due` is when the next delayed job is due, by the last answer that no job waits; 0 if there is none.
    """

    redis: RedisScripts
    key: str
    token: str = field(default_factory=lambda: uuid4().hex)
    next_due: int = 0

    def take(self, now: int) -> Taken | None:
        """Take the next job and lock it, or return None if none waits. Jobs whose delay is over are promoted first."""
        options = {"token": self.token, "lockDuration": LOCK_MILLISECONDS}
        answer = self._run("moveToActive-11", [*_MOVING, "marker"], [f"{self.key}:", now, msgpack.packb(options)])
        if not isinstance(answer[0], list):
            self.next_due = int(float(answer[3]))
            return None
        words = [word.decode(errors="replace") for word in answer[0]]
        return Taken(answer[1].decode(), dict(zip(words[::2], words[1::2], strict=True)))

    def wait(self, seconds: float) -> None:
        """Wait until a job may be there, at most so long; BullMQ marks that with a key of its own."""
        self.redis.command("BZPOPMIN", f"{self.key}:marker", seconds)

    def finish(self, job: str, now: int, *, failed: bool, value: str, keep: Mapping[str, float], attempts: int) -> int:
        """Move a job to `completed` or `failed`, with its value or reason. Returns 0, or an answer below zero."""
        target, prop = ("failed", "failedReason") if failed else ("completed", "returnvalue")
        options = {"token": self.token, "keepJobs": dict(keep), "attempts": attempts, "maxMetricsSize": ""}
        options |= {"lockDuration": LOCK_MILLISECONDS, "fpof": False, "cpof": False, "idof": False, "rdof": False}
        keys = [*_MOVING, target, job, f"metrics:{target}", "marker"]
        arguments = [job, now, prop, value, target, "", f"{self.key}:", msgpack.packb(options)]
        return _code(self._run("moveToFinished-14", keys, arguments))

    def delay(self, job: str, now: int, delay: int, reason: str) -> int:
        """Spend an attempt and try the job again after `delay` milliseconds. Returns 0, or an answer below zero."""
        keys = ["marker", "active", "prioritized", "delayed", job, "events", "meta", "stalled", "wait", "limiter", "pc"]
        fields = msgpack.packb(["failedReason", reason, "stacktrace", json.dumps([reason])])
        arguments = [f"{self.key}:", now, job, self.token, delay, "0", fields, "0"]
        return _code(self._run("moveToDelayed-11", keys, arguments))

    def give_back(self, job: str) -> int:
        """Put a job back in front of the queue, without spending an attempt. Returns 0, or an answer below zero."""
        keys = ["active", "wait", "stalled", "paused", "meta", "limiter", "prioritized", "marker", "events"]
        return _code(self._run("moveJobFromActiveToWait-9", keys, [job, self.token, f"{self.key}:{job}"]))

    def extend(self, job: str) -> bool:
        """Renew the lock; return whether it is still this consumer's."""
        arguments: list[str | int] = [self.token, LOCK_MILLISECONDS, job]
        return bool(self._run("extendLock-2", [f"{job}:lock", "stalled"], arguments))

    def lock_again(self, job: str) -> bool:
        """Lock a job whose lock has run out, unless somebody else has it; return whether it is this consumer's now."""
        key = f"{self.key}:{job}:lock"
        return bool(self.redis.command("SET", key, self.token, "NX", "PX", LOCK_MILLISECONDS))

    def recover(self, now: int) -> None:
        """Put jobs back whose worker has died. To be called every half minute: a job is found at the second call."""
        keys = ["stalled", "wait", "active", "stalled-check", "meta", "paused", "marker", "events", "repeat"]
        arguments: list[str | int] = [_ANY_NUMBER_OF_STALLS, f"{self.key}:", now, LOCK_MILLISECONDS]
        self._run("moveStalledJobsToWait-9", keys, arguments)

    def iterate(self, job: str, scheduler: str, following: int, options: Mapping[str, Any], now: int) -> None:
        """Add the iteration of a job scheduler that follows `job`, unless it is there or the scheduler is gone."""
        keys = [
            "repeat",
            "delayed",
            "wait",
            "paused",
            "meta",
            "prioritized",
            "marker",
            "id",
            "events",
            "pc",
            job,
            "active",
        ]
        arguments = [following, scheduler, "{}", msgpack.packb(dict(options)), now, f"{self.key}:", job]
        self._run("updateJobScheduler-12", keys, arguments)

    def _run(self, script: str, keys: list[str], arguments: list[Any]) -> Any:
        named = [f"{self.key}:{key}" for key in keys]
        return self.redis.run(official_script(script), [(named, arguments)])[0]


def _code(answer: Any) -> int:
    return answer if isinstance(answer, int) and answer < 0 else 0
