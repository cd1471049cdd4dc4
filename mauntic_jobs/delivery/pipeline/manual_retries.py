"""Manual retries: failed jobs that a person put back on their queue with another tool, such as Bull Board."""

from mauntic_jobs.delivery.job_outcome import Decision, Fail
from mauntic_jobs.delivery.ledger.ledger import Ledger
from mauntic_jobs.delivery.ledger.records import State
from mauntic_jobs.delivery.ledger.reopen import ReopenRequest, refusal
from mauntic_jobs.delivery.node_marks import Mark, key_of, read_mark
from mauntic_jobs.delivery.pipeline.order import Order
from mauntic_jobs.stores.redis.async_link import RedisLink


class ManualRetries:
    """Lets the deliveries of such jobs be sent again, by the rules of `dlq retry`."""

    def __init__(self, ledger: Ledger, redis: RedisLink) -> None:
        self._ledger = ledger
        self._redis = redis

    async def reopen(self, order: Order) -> Decision | None:
        """Have the delivery claimed again if it has failed; return the decision if it must not be tried again.

        Whatever is settled or open already stays as it is. Killed at any point, it can be repeated.
        """
        message = order.message
        wish = ReopenRequest(message.organization_id, message.key, order.job.id, order.job.due)
        mark = read_mark(await self._redis.command("GET", key_of(message.key)), message.organization_id)
        row = await self._ledger.standing(wish)
        reason = refusal(wish, row, mark)
        if row["state"] is None and mark is Mark.NONE and reason is not None:
            return Fail(reason)
        if row["state"] == State.FAILED and reason is None:
            if mark is not Mark.NONE:
                # First, so that a delivery is never open while its mark is still there.
                await self._redis.command("DEL", key_of(message.key))
            await self._ledger.reopen(wish, row["fence"])
        return None
