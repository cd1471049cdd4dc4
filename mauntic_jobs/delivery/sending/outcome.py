"""Outcome of one exchange with a provider."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a provider's answer means for the message. Only ACCEPTED and UNKNOWN may have sent it."""

    ACCEPTED = "accepted"
    TEMPORARY = "temporary"  # not sent; the same provider may take it later
    DEFERRED = "deferred"  # not sent; the receiver, or the relay before it, wants this message later
    PERMANENT = "permanent"  # not sent, and it never will be
    RATE_LIMITED = "rate-limited"  # not sent; the provider wants to be asked later
    PROVIDER = "provider"  # not sent; the provider is of no use now, to any message
    UNKNOWN = "unknown"  # the exchange broke where either may be true


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


class Blame(StrEnum):
    """What a refusal is about."""

    MAILBOX = "mailbox"  # the address does not exist
    SENDER = "sender"  # the sender's address, account or quota at this server, or its right to relay
    POLICY = "policy"  # the sending host, its reputation, authentication of the domain, or the content
    FULL = "full"  # the mailbox exists, and takes nothing more
    SESSION = "session"  # this connection; a new one may do
    WAIT = "wait"  # the receiver's load or greylisting: it asks to wait
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict and its reason, a sentence without secrets.

    `provider_message_id` is the id that the provider's events name, `queue_id` that of an SMTP server's queue. `reject`
    is for PERMANENT: BOUNCED, SPAM and UNSUBSCRIBED put the address on the organization's suppression list. `blame` is
    for refusals that name their cause. `retry_after` is for RATE_LIMITED and DEFERRED, in seconds, None where the
    provider does not say. `is_daily` and `is_crowded` are for RATE_LIMITED: it refuses for the quota of a day, or for
    too many connections at once, and not for the rate.
    """

    verdict: Verdict
    reason: str = ""
    provider_message_id: str | None = None
    reject: RejectReason | None = None
    blame: Blame | None = None
    retry_after: float | None = None
    queue_id: str | None = None
    is_daily: bool = False
    is_crowded: bool = False
