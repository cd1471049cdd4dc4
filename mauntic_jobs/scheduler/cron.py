"""Cron lines, read by croniter. It is given naive times only, which it gets right; ours are UTC."""

from datetime import UTC, datetime, timedelta

from croniter import croniter

from mauntic_jobs.window import naive


def latest_slot(cron: str, now: datetime) -> datetime:
    """Return the last instant of the cron line that is not after `now`, aware, in UTC."""
    # croniter looks strictly before the time it is given, so a slot that is now itself is found from just after.
    just_after = naive(now) + timedelta(microseconds=1)
    slot: datetime = croniter(cron, just_after).get_prev(datetime)
    return slot.replace(tzinfo=UTC)
