"""Account at a provider: its rate and its quota of a day, as the provider says when it is asked."""

from typing import NamedTuple, Protocol, runtime_checkable

from mauntic_jobs.delivery.sending.providers.config import ProviderConfig


class Account(NamedTuple):
    """At most `rate` messages a second, and `daily` within 24 hours; None for no limit.

    `sent` are the messages of the last 24 hours. `standing` is the provider's word for an account that is not in order,
    empty for one that is.
    """

    rate: float | None
    daily: int | None
    sent: int
    standing: str = ""


@runtime_checkable
class AccountHolder(Protocol):
    """A provider whose API tells what its account may send."""

    config: ProviderConfig

    async def account(self) -> Account | None:
        """Return what the account may send, None where the credentials may not ask. Raises ExchangeError."""
        ...
