"""What became of one exchange with a provider."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a provider's answer means for the message. Only ACCEPTED and UNKNOWN may have sent it."""

    ACCEPTED = "accepted"
    TEMPORARY = "temporary"  # not sent; the same provider may take it later
    PERMANENT = "permanent"  # not sent, and it never will be
    PROVIDER = "provider"  # not sent; the provider is of no use now, to any message
    UNKNOWN = "unknown"  # the exchange broke where nobody can tell


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict and its reason, a sentence without secrets.

    `provider_message_id` is the provider's own id, where it gave one. `hard_bounce`: the address does not exist.
    """

    verdict: Verdict
    reason: str = ""
    provider_message_id: str | None = None
    hard_bounce: bool = False
