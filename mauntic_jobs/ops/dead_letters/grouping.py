"""Dead letters of the same kind of error, counted together."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from mauntic_jobs.ops.dead_letters.dead_letter import DeadLetter

# So that a million different errors do not fill the memory; those that come later are counted as one.
_MAX_GROUPS = 5000
OTHERS = "others"


@dataclass
class Group:
    """The letters of one fingerprint: how many, when the first and the last of them failed, and the last as example.

    `recent` counts those that failed after a time that was asked about.
    """

    queue: str
    fingerprint: str
    count: int
    first: datetime
    last: datetime
    example: DeadLetter
    recent: int = 0


def grouped(letters: Iterable[DeadLetter], recent_after: datetime | None = None) -> list[Group]:
    """Return the groups of the letters, the largest first."""
    groups: dict[tuple[str, str], Group] = {}
    for letter in letters:
        key = (letter.queue, letter.fingerprint)
        if key not in groups and len(groups) >= _MAX_GROUPS:
            key = (letter.queue, OTHERS)
        group = groups.get(key)
        if group is None:
            group = groups[key] = Group(*key, 0, letter.failed_at, letter.failed_at, letter)
        group.count += 1
        group.first = min(group.first, letter.failed_at)
        group.recent += recent_after is not None and letter.failed_at > recent_after
        if letter.failed_at >= group.last:
            group.last, group.example = letter.failed_at, letter
    return sorted(groups.values(), key=lambda group: (-group.count, group.queue, group.fingerprint))
