"""A message under way, with the queue's job that asks for it."""

from dataclasses import dataclass

from mauntic_jobs.delivery.admission.admission import Admitted
from mauntic_jobs.delivery.node_marks import key_of, value_of
from mauntic_jobs.delivery.payload import Message
from mauntic_jobs.delivery.pipeline.exchange_places import ExchangePlaces
from mauntic_jobs.delivery.pipeline.fair_share import FairShare
from mauntic_jobs.stores.bullmq.job import ReceivedJob


@dataclass(frozen=True, slots=True)
class Order:
    """A message, the job that asks for it, what is kept of it, and whose turn it is on its queue.

    `given_up_elsewhere`: the Node engine has tried it, and sent nothing. `admitted` is None where admission does not
    decide: on a queue of another channel.
    """

    job: ReceivedJob
    message: Message
    channel: str
    payload: str
    fairness: FairShare
    places: ExchangePlaces
    given_up_elsewhere: bool = False
    admitted: Admitted | None = None

    @property
    def tried_elsewhere(self) -> bool:
        """Whether the Node engine may have counted a failure of it."""
        return self.given_up_elsewhere or self.job.retried is not None or self.job.attempts_made > 0

    @property
    def mark(self) -> tuple[str, str]:
        """The key in Redis, and its value, that tell the Node engine that the message was sent."""
        return key_of(self.message.key), value_of(self.message.organization)
