"""Retry schedule of messages that a receiver, or the relay before it, asks to have later.

Receivers' waits are minutes and hours: greylisting lets the first repetition pass after one to fifteen minutes, and a
relay's own limit is over within an hour. A deferral spends none of the job's attempts, which are for faults of ours.
"""

import random

# Waits after the first, second and later deferrals of a message; the last one is for all that follow, until the message
# is older than messages may become.
SCHEDULE_SECONDS = (60.0, 300.0, 900.0, 1800.0, 3600.0)
# A relay that takes ten messages a minute is not asked for a thousand at once.
_MAX_JITTER = 0.5


def wait_of(deferrals: int, asked: float | None) -> float:
    """Return the seconds until a message is tried again that has been deferred `deferrals` times before.

    `asked` is for how many seconds the receiver asks, if it says so: never less is waited.
    """
    seconds = max(SCHEDULE_SECONDS[min(deferrals, len(SCHEDULE_SECONDS) - 1)], asked or 0.0)
    return seconds * random.uniform(1.0, 1.0 + _MAX_JITTER)  # noqa: S311 - to spread
