"""Queue of a scheduled job: its Redis, and the names of its keys."""

from dataclasses import dataclass, field

from pydantic import SecretStr

from mauntic_jobs.errors import ConfigurationError
from mauntic_jobs.job import AnyJob
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.bullmq.workers import worker_name
from mauntic_jobs.stores.redis.client import RedisScripts, open_redis


@dataclass(frozen=True)
class Queue:
    """A BullMQ queue. `name` may hold a colon: Node writes the same keys with prefix `bull:analytics` and the rest."""

    redis_url: str = field(repr=False)
    name: str
    prefix: str = "bull"

    @property
    def key(self) -> str:
        """What the queue's keys begin with, without the last colon."""
        return f"{self.prefix}:{self.name}"

    def connect(self, *, as_worker: bool = False) -> RedisScripts:
        """Open a connection, for a worker one by which Node's `getWorkers` finds it; the caller closes it.

        Raises UnavailableError or ConfigurationError.
        """
        settings = Settings(redis_url=SecretStr(self.redis_url), queue_prefix=self.prefix)
        return open_redis(settings, worker_name(self.key) if as_worker else None)


def queue_of(job: AnyJob, settings: Settings) -> Queue:
    """Return the queue of a scheduled job. Raises ConfigurationError if there is no Redis."""
    if settings.redis_url is None:
        raise ConfigurationError("There is no Redis. Set REDIS_URL, or redis_url in mauntic-jobs.toml.")
    return Queue(settings.redis_url.get_secret_value(), job.queue, settings.queue_prefix)
