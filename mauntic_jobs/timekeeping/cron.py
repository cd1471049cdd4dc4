"""Cron lines and their slots, in UTC. croniter reads them; it is given naive times only, which it gets right."""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from mauntic_jobs.errors import UsageError
from mauntic_jobs.timekeeping.window import naive

_VALUE = r"(?:\d+|[a-z]{3})"
_FIELD = rf"(?:\*|{_VALUE}(?:-{_VALUE})?)(?:/\d+)?"
_LINE = re.compile(rf"{_FIELD}(?:,{_FIELD})*(?: +{_FIELD}(?:,{_FIELD})*){{4}}", re.IGNORECASE | re.ASCII)
_ITEM = re.compile(rf"(?P<first>\*|{_VALUE})(?:-(?P<last>{_VALUE}))?(?:/(?P<step>\d+))?", re.IGNORECASE | re.ASCII)

_MAX_DIGITS = 2

# croniter looks strictly before or after the time it is given.
_TICK = timedelta(microseconds=1)


class _Field(NamedTuple):
    """A field of a line: its name, its least and greatest number, and the names of numbers from `least` on."""

    name: str
    least: int
    most: int
    names: Sequence[str] = ()


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    *(_Field("minute", 0, 59), _Field("hour", 0, 23), _Field("day", 1, 31)),
    *(_Field("month", 1, 12, _MONTHS), _Field("weekday", 0, 6, _WEEKDAYS)),
)


def check_cron(line: str) -> str:
    """Return a cron line that Vixie cron, supercronic and BullMQ read alike. Raises UsageError that says why it is not.

    Each of them knows more, such as `5/15`, and the others refuse that or take it for other times.
    """
    _check_fields(line)
    parts = line.lower().split()
    for field, part in zip(_FIELDS, parts, strict=True):
        seen: set[int] = set()
        for item in part.split(","):
            values = _values(line, field, item, is_alone=item == part)
            if seen.intersection(values):
                raise _refusal(line, field, part, "names a number twice, which BullMQ refuses")
            seen.update(values)
    day, weekday = parts[2], parts[4]
    if "*" not in (day, weekday) and "*" in day + weekday:
        raise UsageError(
            f"{line!r} is not a valid cron expression: with `*/n` in one day field and numbers in the other, Vixie "
            "cron takes days that both fields name, and BullMQ days that either names. Leave one of the two at `*`."
        )
    return check_pattern(line)


def check_pattern(line: str) -> str:
    """Return a cron line that all clocks read alike. Raises UsageError that says why it cannot."""
    from croniter import croniter
    from croniter.croniter import CroniterError

    _check_fields(line)
    try:
        croniter(line, datetime(2024, 1, 1)).get_next(datetime)  # noqa: DTZ001 - naive is UTC here
    except (CroniterError, ValueError, KeyError) as error:
        raise UsageError(f"{line!r} is not a valid cron expression: {_reason(str(error))}.") from None
    return line


def _check_fields(line: str) -> None:
    if not _LINE.fullmatch(line):
        raise UsageError(
            f"{line!r} is not a valid cron expression: write five fields, for minute, hour, day, month and weekday, "
            "like `0 2 * * *`."
        )


def _values(line: str, field: _Field, item: str, *, is_alone: bool) -> range:
    match = _ITEM.fullmatch(item)
    if match is None:
        raise _refusal(line, field, item, "cannot be read")
    first, last, step = match["first"], match["last"], match["step"]
    if first == "*" and step is None and not is_alone:
        raise _refusal(line, field, item, "leaves nothing for the rest of the list")
    if first != "*" and last is None and step is not None:
        raise _refusal(line, field, item, f"has a step without a range: write `{first}-{field.most}/{step}`")
    if step is not None and not 1 <= int(step) <= field.most:
        raise _refusal(line, field, item, f"has a step outside 1-{field.most}, which supercronic refuses")
    if first == "*":
        return range(field.least, field.most + 1, int(step or 1))
    beginning = _number(line, field, item, first)
    if last is None:
        # Weekday 7 is Sunday, as 0 is.
        beginning = 0 if field.names is _WEEKDAYS and beginning == len(_WEEKDAYS) else beginning
        return range(beginning, beginning + 1)
    end = _number(line, field, item, last)
    if beginning > end or end > field.most:
        raise _refusal(
            line, field, item, f"does not rise within {field.least}-{field.most}: write a list of ranges that do"
        )
    return range(beginning, end + 1, int(step or 1))


def _number(line: str, field: _Field, item: str, text: str) -> int:
    if text in field.names:
        return field.names.index(text) + field.least
    if not text.isdecimal():
        raise _refusal(line, field, item, "has a name that the field does not know")
    if len(text) > _MAX_DIGITS:
        raise _refusal(line, field, item, f"has a number of more than {_MAX_DIGITS} digits, which supercronic refuses")
    return int(text)


def _refusal(line: str, field: _Field, item: str, problem: str) -> UsageError:
    return UsageError(f"{line!r} is not a valid cron expression: {field.name} `{item}` {problem}.")


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


def in_words(cron: str) -> str:
    """Return what a cron line means, in English: `At 02:00, only on Monday`."""
    from cron_descriptor import Options, get_description

    options = Options()
    options.use_24hour_time_format = True
    options.locale_code = "en_US"
    return str(get_description(cron, options))
