"""Catch-up policies for slots that no clock ran at their time."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from mauntic_jobs.errors import UsageError
from mauntic_jobs.timekeeping.window import format_duration, parse_duration

# How late a launcher may be that starts for a slot: no catching up, but no clock strikes to the microsecond either.
ON_TIME = timedelta(minutes=1)


class Which(StrEnum):
    """Which of the slots that were left out are run later."""

    NONE = "none"
    LATEST = "latest"
    ALL = "all"


@dataclass(frozen=True)
class CatchUp:
    """Run `which` of the slots that were left out, if they are no older than `within`."""

    which: Which
    within: timedelta

    def __str__(self) -> str:
        return self.which.value if self.which is Which.NONE else f"{self.which.value}/{format_duration(self.within)}"


def parse_catch_up(text: str) -> CatchUp:
    """Read `none`, or `latest` or `all` with the greatest age, as in all/48h. Raises UsageError."""
    which, slash, within = text.strip().partition("/")
    if which == Which.NONE and not slash:
        return CatchUp(Which.NONE, ON_TIME)
    if which in (Which.LATEST, Which.ALL) and slash:
        return CatchUp(Which(which), max(parse_duration(within), ON_TIME))
    raise UsageError(f"Cannot read {text!r} as a catch-up policy: write none, latest/24h or all/48h.")
