"""The ways messages go out, and what differs between them."""

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Channel:
    """A channel. `address` is the field of a payload that names the recipient, `contact` the column that does."""

    name: str
    queue: str
    concurrency: int
    address: str
    contact: str | None


CHANNELS = MappingProxyType(
    {
        channel.name: channel
        for channel in (
            Channel("email", "delivery:send-email", 5, "email_address", "email"),
            Channel("sms", "delivery:send-sms", 3, "phone_number", "phone"),
            Channel("push", "delivery:send-push", 10, "device_token", None),
        )
    }
)
