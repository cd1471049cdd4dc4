"""The ways messages go out, and what differs between them."""

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Channel:
    """A channel. `address` is the field of a payload that names the recipient, `contact` the column that does.

    Of its messages, `concurrency` are at providers at once by default. So that Postgres gets few and large calls, more
    are claimed meanwhile, until `claimed` are.
    """

    name: str
    queue: str
    concurrency: int
    claimed: int
    address: str
    contact: str | None

    def ahead(self, concurrency: int) -> int:
        """Return how many messages are claimed beside so many that are at providers: as many again at most."""
        return max(min(concurrency, self.claimed - concurrency), 0)


CHANNELS = MappingProxyType(
    {
        channel.name: channel
        for channel in (
            Channel("email", "delivery:send-email", 5, 20, "email_address", "email"),
            # When a process is killed, what it has claimed may have been sent: an SMS waits for a human then.
            Channel("sms", "delivery:send-sms", 3, 0, "phone_number", "phone"),
            Channel("push", "delivery:send-push", 10, 20, "device_token", None),
        )
    }
)
