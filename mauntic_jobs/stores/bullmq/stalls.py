"""Stalls of BullMQ jobs: which of them are deaths of other programs' workers.

BullMQ counts in a job how often its worker died with it, and forgets whose worker that was. So this program keeps a
count of its own beside it: how many stalls are accounted for. While a process of ours has a job in hand, one more than
have happened is; a process that lets the job go takes that one back. What BullMQ counts beyond is another's death.
"""

import re
from collections.abc import Mapping

# A field of the job's hash, which BullMQ and Node's programs leave alone.
FIELD = "mauntic-jobs:stalls"
# What BullMQ counts in since version 5, and what it counted in before. No script of BullMQ resets them.
COUNTERS = ("stc", "stalledCounter")
_NUMBER = re.compile(r"[0-9]{1,15}")


def stalls_of(fields: Mapping[str, str]) -> int:
    """Return how often a worker died that had the job of this hash."""
    # Most jobs have neither, and none is looked at more often.
    return sum([_count(fields, name) for name in COUNTERS if name in fields])


def is_accounted_for(fields: Mapping[str, str], stalls: int) -> bool:
    """Return whether all of these deaths, so many, are known to be those of processes of this program."""
    return stalls == 0 or stalls <= _count(fields, FIELD)


def _count(fields: Mapping[str, str], name: str) -> int:
    text = fields.get(name)
    return int(text) if text and _NUMBER.fullmatch(text) else 0
