"""Waits that deferred deliveries are meant to have: what the reason in the ledger begins with."""

from enum import StrEnum


class Wait(StrEnum):
    """What a delivery waits for although all is well."""

    WARM_UP = "warm-up"
    QUIET_HOURS = "quiet hours"
    RECEIVER = "the receiver asks to wait"


# As LIKE takes them: the parameter `waits` of statements that tell these deliveries from those in trouble.
PATTERNS = [f"{wait}:%" for wait in Wait]


def wait_in(reason: str | None) -> Wait | None:
    """Return which of them a delivery's reason names, or None."""
    return next((wait for wait in Wait if (reason or "").startswith(f"{wait}:")), None)
