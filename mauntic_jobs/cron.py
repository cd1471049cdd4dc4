"""Cron lines and their slots, in UTC. croniter reads them; it is given naive times only, which it gets right."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from mauntic_jobs.errors import UsageError
from mauntic_jobs.window import naive

# Five fields of numbers, names, stars, ranges, lists and steps: what every launcher understands in the same way.
_FIELD = r"(?:\*|(?:\d+|[a-z]{3})(?:-(?:\d+|[a-z]{3}))?)(?:/\d+)?"
_LINE = re.compile(rf"{_FIELD}(?:,{_FIELD})*(?: +{_FIELD}(?:,{_FIELD})*){{4}}", re.IGNORECASE | re.ASCII)

# croniter looks strictly before or after the time it is given.
_TICK = timedelta(microseconds=1)


def check_cron(line: str) -> str:
    """Return a cron line, or raise UsageError that says why it is none."""
    from croniter import croniter
    from croniter.croniter import CroniterError

    if not _LINE.fullmatch(line):
        raise UsageError(
            f"{line!r} is no cron line: write five fields, for minute, hour, day, month and weekday, like `0 2 * * *`."
        )
    try:
        croniter(line, datetime(2024, 1, 1)).get_next(datetime)  # noqa: DTZ001 - naive is UTC here
    except (CroniterError, ValueError, KeyError) as error:
        raise UsageError(f"{line!r} is no cron line: {_reason(str(error))}.") from None
    return line


def _reason(croniter_says: str) -> str:
    if "out of range" in croniter_says:
        return "a number lies outside its field's range"
    if "next date" in croniter_says:
        return "no date fits it"
    return "a field cannot be read"


def latest_slot(cron: str, now: datetime) -> datetime:
    """Return the last instant of the cron line that is not after `now`, aware, in UTC."""
    from croniter import croniter

    slot: datetime = croniter(cron, naive(now) + _TICK).get_prev(datetime)
    return slot.replace(tzinfo=UTC)


def slots(cron: str, after: datetime) -> Iterator[datetime]:
    """Yield every instant of the cron line that comes after `after`, oldest first, aware, in UTC; without end."""
    from croniter import croniter

    line = croniter(cron, naive(after))
    while True:
        slot: datetime = line.get_next(datetime)
        yield slot.replace(tzinfo=UTC)


def next_slot(cron: str, after: datetime) -> datetime:
    """Return the first instant of the cron line that comes after `after`, aware, in UTC."""
    return next(slots(cron, after))
