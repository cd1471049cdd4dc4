"""Interface of a provider."""

from typing import Any, Protocol

from mauntic_jobs.delivery.sending.outcome import Outcome
from mauntic_jobs.delivery.sending.providers.config import ProviderConfig


class Provider(Protocol):
    """A provider with a configuration. `sender` is the address that it sends from by default."""

    config: ProviderConfig
    sender: str | None

    async def send(self, message: Any) -> Outcome:
        """Send one message of the channel's own kind, such as an Email; every failure of the provider is an Outcome."""
        ...

    async def check(self) -> Outcome:
        """Log in without sending anything; ACCEPTED if the provider takes the credentials.

        `reason` of what is ACCEPTED says what was asked beyond that.
        """
        ...

    def abort(self) -> None:
        """End all exchanges now: each `send` returns the outcome that it has come to."""
        ...

    async def close(self) -> None:
        """Give up what is kept open."""
        ...
