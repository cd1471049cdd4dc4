"""Idempotency marks in Redis: what the Node engine, or this one, wrote about a message that it had finished.

The key has no organization, and two organizations may use the same delivery id. So this engine writes the organization
into the value, and never takes a mark of its own for another organization's.
"""

from enum import StrEnum
from uuid import UUID

SECONDS_KEPT = 86_400

_OWN = "mauntic-jobs"


class Mark(StrEnum):
    """What a mark says about a message of an organization."""

    NONE = "none"
    SENT = "sent"  # by the Node engine
    OWED = "owed"  # the Node engine gave it up; nothing went out
    SUPPRESSED = "suppressed"  # by the Node engine
    OWN = "own"  # this engine sent it, for this organization
    UNKNOWN = "unknown"


# `failed` is also written before a retry that would have sent, and `warmup_limit` instead of waiting for tomorrow.
_OF_NODE = {
    "sent": Mark.SENT,
    "failed": Mark.OWED,
    "warmup_limit": Mark.OWED,
    "suppressed": Mark.SUPPRESSED,
}


def key_of(delivery: str) -> str:
    """Return the key of the mark of a delivery id."""
    return f"delivery:idem:{delivery}"


def value_of(organization: UUID | str) -> str:
    """Return what this engine writes for a message that it has sent. The Node engine takes any value for processed."""
    return f"{_OWN}:{organization}"


def read_mark(value: bytes | None, organization: UUID) -> Mark:
    """Return what the value of a mark says about a message of this organization."""
    if value is None:
        return Mark.NONE
    text = value.decode(errors="replace")
    if text == _OWN or text.startswith(f"{_OWN}:"):
        # Earlier versions wrote no organization, which says nothing about any.
        return Mark.OWN if text == value_of(organization) else Mark.NONE
    return _OF_NODE.get(text, Mark.UNKNOWN)
