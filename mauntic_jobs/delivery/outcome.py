"""What became of one exchange with a provider."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a provider's answer means for the message. Only ACCEPTED and UNKNOWN may have sent it."""

    ACCEPTED = "accepted"
    TEMPORARY = "temporary"  # not sent; the same provider may take it later
    PERMANENT = "permanent"  # not sent, and it never will be
    RATE_LIMITED = "rate-limited"  # not sent; the provider wants to be asked later
    PROVIDER = "provider"  # not sent; the provider is of no use now, to any message
    UNKNOWN = "unknown"  # the exchange broke where nobody can tell


class RejectReason(StrEnum):
    """Why a message never will be sent, in the terms of Anymail's `reject_reason`."""

    INVALID = "invalid"
    BOUNCED = "bounced"
    TIMED_OUT = "timed_out"
    BLOCKED = "blocked"
    SPAM = "spam"
    UNSUBSCRIBED = "unsubscribed"
    OTHER = "other"


# They put the address on the suppression list: the recipient is at fault, and the sender's installation is not.
SUPPRESSING = (RejectReason.BOUNCED, RejectReason.SPAM, RejectReason.UNSUBSCRIBED)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict and its reason, a sentence without secrets.

    `provider_message_id` is the id that the provider's events name, `queue_id` that of an SMTP server's queue. `reject`
    is for PERMANENT: BOUNCED, SPAM and UNSUBSCRIBED put the address on the organization's suppression list.
    `retry_after` is for RATE_LIMITED, in seconds, None where the provider does not say.
    """

    verdict: Verdict
    reason: str = ""
    provider_message_id: str | None = None
    reject: RejectReason | None = None
    retry_after: float | None = None
    queue_id: str | None = None
