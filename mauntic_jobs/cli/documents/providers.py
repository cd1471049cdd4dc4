"""JSON of the providers' configurations."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from typing_extensions import TypedDict


class ProviderJson(TypedDict):
    """A row of delivery.provider_configs, without what its configuration holds.

    `state` is `valid` or what is wrong. Keys that are `ignored` change nothing, and `unknown` ones are not known.
    """

    provider: UUID
    organization: UUID
    channel: str
    type: str
    priority: int
    active: bool
    stored: Literal["encrypted", "plain"]
    state: str
    ignored: list[str]
    unknown: list[str]


class ProviderLimitJson(TypedDict):
    """A provider that is limited, in messages a second; `rate` is what holds, null where nothing limits it.

    `account` is the rate that the account allows. `daily` is how many messages it may be sent within 24 hours, of which
    `used` count; while none is left, `full_until` is when there is room, or when the provider is asked again.
    `connections` is how many each process may have at once, configured or learned; 0 if each ends with its message.
    `waiting` are the messages of its organization that wait for their turn, `seconds` how long they take at this rate.
    """

    organization: UUID
    channel: str
    provider: UUID
    configured: float | None
    learned: float | None
    account: float | None
    rate: float | None
    paused_until: datetime | None
    daily: int | None
    used: int | None
    full_until: datetime | None
    connections: int | None
    waiting: int
    seconds: float | None


class ProviderCheckJson(ProviderJson):
    """A provider that was logged in at: `state` begins with `works`, or is what is wrong; the check took `seconds`.

    `released` counts the messages that --retry-now lets be sent.
    """

    seconds: float
    released: int | None
