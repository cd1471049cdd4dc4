"""Messages that a worker of another program had in hand when it died: it may have sent them."""

from mauntic_jobs.delivery.ledger.ledger import Ledger
from mauntic_jobs.delivery.node_marks import Mark, key_of, read_mark
from mauntic_jobs.delivery.payload import read_message
from mauntic_jobs.settings.types import MessageLimits
from mauntic_jobs.stores.bullmq.job import ReceivedJob
from mauntic_jobs.stores.redis.async_link import RedisLink


class ForeignLosses:
    """Notes in the ledger that such messages may have been sent."""

    def __init__(self, ledger: Ledger, redis: RedisLink, limits: MessageLimits) -> None:
        self._ledger = ledger
        self._redis = redis
        self._limits = limits

    async def note(self, job: ReceivedJob, data: str, channel: str) -> None:
        """Note it of the message of a job. A mark in Redis tells what became of the message, and nothing is in doubt.

        Raises MalformedError for data that is not a message, and MaunticJobsError where a store is away.
        """
        message, name, _ = read_message(data, channel, self._limits)
        mark = read_mark(await self._redis.command("GET", key_of(message.key)), message.organization_id)
        if mark is Mark.NONE:
            await self._ledger.doubt(message, name, job.id, job.retried or job.due)
