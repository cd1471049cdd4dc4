"""Processes of an installation beside its jobs: delivery, watching and pruning."""

from typing import NamedTuple


class Upkeep(NamedTuple):
    """One process: its name in units, what it is for, and its command where it stays and where cron calls it.

    `cron` is None for a process that cron cannot call, `stays` for one that has nothing to wait for.
    """

    name: str
    purpose: str
    stays: str | None
    once: str | None
    cron: str | None


_EACH_MINUTE = "* * * * *"

CLOCK = Upkeep("clock", "runs the scheduled jobs", "schedule run --loop", "schedule run --quiet", _EACH_MINUTE)
UPKEEP = (
    Upkeep("deliver", "delivers the messages on the platform's queues", "deliver --all", None, None),
    Upkeep(
        *("monitor", "watches for conditions that need an operator"),
        *("monitor run", "monitor run --once --quiet", _EACH_MINUTE),
    ),
    Upkeep(
        *("dead-letters", "watches the dead letters"),
        *("dlq watch --quiet", "dlq watch --once --quiet", _EACH_MINUTE),
    ),
    Upkeep("prune", "removes what is older than the settings retain it", None, "db prune --quiet", "30 4 * * *"),
)
