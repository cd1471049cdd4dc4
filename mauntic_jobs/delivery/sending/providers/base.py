"""Interface of a provider."""

from typing import Any, Protocol, TypeVar

from mauntic_jobs.delivery.sending.outcome import Outcome
from mauntic_jobs.delivery.sending.providers.config import ProviderConfig

_MessageT_contra = TypeVar("_MessageT_contra", contravariant=True)


class Provider(Protocol[_MessageT_contra]):
    """A provider with a configuration, of Email, Sms or Push. `sender` is the address that it sends from by default."""

    config: ProviderConfig
    sender: str | None

    async def send(self, message: _MessageT_contra) -> Outcome:
        """Send one message; every failure of the provider is an Outcome."""
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


# A provider of whichever channel.
AnyProvider = Provider[Any]
