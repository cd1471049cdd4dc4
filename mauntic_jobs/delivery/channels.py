"""The ways messages go out, and what differs between them."""

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Channel:
    """A channel. `address` is the field of a payload that names the recipient, `contact` the column that does.

    Of its messages, `concurrency` are at providers at once by default, and `ahead` more are claimed at most, to be sent
    as soon as there is a place.
    """

    name: str
    queue: str
    concurrency: int
    ahead: int
    address: str
    contact: str | None


CHANNELS = MappingProxyType(
    {
        channel.name: channel
        for channel in (
            Channel("email", "delivery:send-email", 5, 10, "email_address", "email"),
            # When a process is killed, what it has claimed may have been sent: an SMS waits for a human then.
            Channel("sms", "delivery:send-sms", 3, 0, "phone_number", "phone"),
            Channel("push", "delivery:send-push", 10, 10, "device_token", None),
        )
    }
)
