"""Connections at once to a provider: how many a process has, and how many it may have."""

from typing import Protocol, runtime_checkable

from mauntic_jobs.delivery.sending.providers.config import ProviderConfig


@runtime_checkable
class ConnectionHolder(Protocol):
    """A provider that keeps connections, as many as messages are sent at once.

    `most` is how many it may have, as is learned from refusals: None for no limit, 0 for those that end with their
    message.
    """

    config: ProviderConfig
    most: int | None

    @property
    def opened(self) -> int:
        """Number of open connections, idle and in use."""
        ...

    def limit(self, most: int | None) -> None:
        """Have no more connections than that from now on."""
        ...
