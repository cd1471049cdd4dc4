"""Time until which nothing can fall due, as far as one look at the schedule tells."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from mauntic_jobs.scheduler.plan import Plan
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.timekeeping.cron import next_slot

# A schedule that is set in the database is noticed within this, or within `watch_every` if that is longer.
_MAX_LOOK_INTERVAL = timedelta(minutes=5)


def max_look_interval(settings: Settings) -> timedelta:
    """Return the longest time between two looks of a clock that has nothing to do."""
    return max(_MAX_LOOK_INTERVAL, settings.watch_every)


def idle_until(
    plans: Sequence[Plan], task_slots: Iterable[datetime], there: datetime, here: datetime, settings: Settings
) -> datetime | None:
    """Return the instant by the host's clock before which no slot strikes, or None if something may fall due earlier.

    `plans` were made at `there`, the database's time; `here` is the host's time, read no later than that.
    `task_slots` are the next slots of the tasks beside the jobs.
    """
    if not all(_is_settled(each) for each in plans):
        return None
    struck = min([next_slot(each.job.cron, there) for each in plans] + list(task_slots), default=None)
    latest = here + max_look_interval(settings)
    # If the database's clock is ahead, the slot strikes that much earlier by the host's. If it is behind, the call at
    # the slot's time by the host's clock looks all the same, and waits.
    return latest if struck is None else min(struck + min(here - there, timedelta()), latest)


def _is_settled(each: Plan) -> bool:
    """Return whether only a further slot, or a change of the schedule, gives the job anything to do.

    A run under way may be killed, a slot that is held comes back, a pause ends: each makes slots due between slots.
    """
    known = each.known
    under_way = each.open or each.waits_for
    return not (each.due or each.passed or each.news or under_way or known.held or known.former or known.pause)
