"""Limits of a day as `admission.lua` keeps them, for those that read them."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

# Turns are counted by parts of ten minutes.
_PART_SECONDS, _PARTS = 600, 144
# Where others have used up the rest, the account is asked about again within so long.
_UNKNOWN = timedelta(hours=1)


class DayUse(NamedTuple):
    """How many messages count within the last 24 hours, and when there is room for one more at the latest.

    `full_until` is None where there is room now.
    """

    used: int
    full_until: datetime | None


def day_use(turns: Mapping[bytes, bytes], most: int, others: int, now: datetime) -> DayUse:
    """Return the use of a limit of `most` messages, by the hash `day:ID` and what others have sent."""
    oldest = int(now.timestamp()) // _PART_SECONDS - _PARTS
    parts = {int(name): int(count) for name, count in turns.items() if name.isdigit() and int(name) >= oldest}
    used = sum(parts.values()) + others
    over = used - most + 1
    if over <= 0:
        return DayUse(used, None)
    for part in sorted(parts):
        over -= parts[part]
        if over <= 0:
            return DayUse(used, datetime.fromtimestamp((part + _PARTS + 1) * _PART_SECONDS, UTC))
    return DayUse(used, now + _UNKNOWN)
