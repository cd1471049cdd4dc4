"""The next job of a job scheduler, which BullMQ leaves to the worker that takes the one before it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from mauntic_jobs.errors import UsageError
from mauntic_jobs.stores.bullmq.commands import Taken
from mauntic_jobs.stores.bullmq.job import slot_of
from mauntic_jobs.timekeeping.cron import check_pattern, slots
from mauntic_jobs.timekeeping.epoch import instant_of, milliseconds

# These need no time zone database, which small images lack.
_UTC_NAMES = ("", "UTC", "Etc/UTC", "GMT")
_FIELDS_WITH_SECONDS = 6


@dataclass(frozen=True)
class Iteration:
    """The job to be made: its scheduler, its instant in milliseconds since 1970, and its options in BullMQ's terms."""

    scheduler: str
    at: int
    options: Mapping[str, object]


def next_iteration(taken: Taken, now: datetime) -> Iteration | None:
    """Return what follows a job, or None if no scheduler made it or its scheduler has come to its end.

    Reads no more of the job than that, so that one whose data are spoiled does not end the schedule. Raises UsageError
    for a scheduler that cannot be followed.
    """
    scheduler = taken.fields.get("rjk")
    if not scheduler:
        return None
    options = _options(taken)
    repeat = options["repeat"]
    due = slot_of(taken.id)
    if due is None or taken.id.rpartition(":")[0] != f"repeat:{scheduler}":
        raise UsageError("it was made by a version of BullMQ that knew no job schedulers; register it anew")
    count = _integer(repeat.get("count")) or 0
    limit, starts, ends = (_integer(repeat.get(name)) for name in ("limit", "startDate", "endDate"))
    if (limit is not None and count + 1 > limit) or (ends is not None and milliseconds(now) > ends):
        return None
    after = max(now, due) if starts is None else max(now, due, instant_of(starts))
    # Where it repeats at an interval, BullMQ's script reckons the next one itself.
    at = milliseconds(after if repeat.get("every") else _following(repeat, after))
    iteration = {"jobId": f"repeat:{scheduler}:{at}", "prevMillis": at, "timestamp": milliseconds(now)}
    own = {**options, **iteration, "repeat": {**repeat, "count": count + 1}, "repeatJobKey": scheduler}
    return Iteration(scheduler, at, own)


def _options(taken: Taken) -> dict[str, Any]:
    try:
        options = json.loads(taken.fields.get("opts") or "{}")
    except (ValueError, RecursionError):
        options = None
    if not isinstance(options, dict) or not isinstance(options.get("repeat"), dict):
        raise UsageError(f"the options of job {taken.id} do not say how it repeats; register it anew")
    return options


def _following(repeat: Mapping[str, object], after: datetime) -> datetime:
    zone = _zone(str(repeat.get("tz") or ""))
    fields = str(repeat.get("pattern", "")).split()
    # Node's patterns may begin with a field for seconds.
    cron = check_pattern(" ".join(fields[1:] if len(fields) == _FIELDS_WITH_SECONDS and fields[0] == "0" else fields))
    local = after.astimezone(zone).replace(tzinfo=UTC)
    # An hour that is there twice when a zone's clocks are set back counts once, and what it hides is not waited for.
    instants = (slot.replace(tzinfo=zone).astimezone(UTC) for slot in slots(cron, local))
    return next(instant for instant in instants if instant > after)


def _zone(name: str) -> tzinfo:
    if name in _UTC_NAMES:
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise UsageError(f"its zone {name!r} is unknown on this host") from None


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and abs(value) < 2**53 else None
