"""Consumer of a BullMQ queue for one job at a time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import uuid4

from mauntic_jobs.stores.bullmq import commands as scripts
from mauntic_jobs.stores.bullmq.commands import ScriptCall, Taken
from mauntic_jobs.stores.bullmq.enqueue import official_script
from mauntic_jobs.stores.redis.client import RedisScripts


@dataclass
class QueueConsumer:
    """One consumer of one queue. `key` is the queue's prefix and name; times are milliseconds since 1970.

    `next_due` is when the next delayed job is due, by the last answer that no job waits; 0 if there is none. Methods
    that acknowledge return 0, or a script's answer below zero.
    """

    redis: RedisScripts
    key: str
    token: str = field(default_factory=lambda: uuid4().hex)
    next_due: int = 0

    def take(self, now: int) -> Taken | None:
        """Take the next job and lock it, or return None if none waits. Jobs whose delay is over are promoted first."""
        answer = self._run(scripts.take(self.key, self.token, now))
        taken = scripts.taken(answer)
        if taken is None:
            self.next_due = scripts.next_due(answer, now) or 0
        return taken

    def wait(self, seconds: float) -> None:
        """Wait until a job may be there, at most so long; BullMQ marks that with a key of its own."""
        self.redis.command("BZPOPMIN", f"{self.key}:marker", seconds)

    def finish(self, job: str, now: int, *, failed: bool, value: str, keep: Mapping[str, float], attempts: int) -> int:
        """Move a job to `completed` or `failed`, with its value or reason."""
        call = scripts.finish(self.key, self.token, job, now, failed=failed, value=value, keep=keep, attempts=attempts)
        return scripts.code(self._run(call))

    def delay(self, job: str, now: int, delay: int, reason: str) -> int:
        """Spend an attempt and try the job again after `delay` milliseconds."""
        return scripts.code(self._run(scripts.delay(self.key, self.token, job, now, delay, reason)))

    def give_back(self, job: str) -> int:
        """Put a job back in front of the queue, without spending an attempt."""
        return scripts.code(self._run(scripts.give_back(self.key, self.token, job)))

    def extend(self, job: str) -> bool:
        """Renew the lock; return whether it is still this consumer's."""
        return bool(self._run(scripts.extend(self.key, self.token, job)))

    def lock_again(self, job: str) -> bool:
        """Lock a job whose lock has run out, unless another one has it; return whether it is this consumer's now."""
        return bool(self.redis.command(*scripts.lock_again(self.key, self.token, job)))

    def recover(self, now: int) -> None:
        """Put jobs back whose worker has died. To be called every half minute: a job is found at the second call."""
        self._run(scripts.recover(self.key, now))

    def iterate(self, job: str, scheduler: str, following: int, options: Mapping[str, object], now: int) -> None:
        """Add the iteration of a job scheduler that follows `job`, unless it is there or the scheduler is gone."""
        self._run(scripts.iterate(self.key, job, scheduler, following, options, now))

    def _run(self, call: ScriptCall) -> object:
        return self.redis.run(official_script(call.script), [(call.keys, call.arguments)])[0]
