"""Queues on which jobs wait and nothing is done."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from mauntic_jobs.alerts.alert import Alert, Cause, Severity
from mauntic_jobs.delivery.channels import CHANNELS
from mauntic_jobs.delivery.queues import base_of
from mauntic_jobs.job import Job
from mauntic_jobs.lua import script
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.redis.client import RedisScripts
from mauntic_jobs.timekeeping.window import format_duration

_TOO_LONG = timedelta(minutes=10)
_KEYS = ("wait", "prioritized", "active", "completed", "failed")


class _Queue(NamedTuple):
    """A queue, what works on it, and whether one job at a time may take as long as it likes."""

    base: str
    command: str
    patient: bool


def consumers_stuck(redis: RedisScripts, settings: Settings, jobs: Sequence[Job[Any]], now: datetime) -> list[Alert]:
    """Return an alert for each queue whose next job has waited for ten minutes in which no job began or ended."""
    queues = list(_queues(settings, jobs))
    calls = [([f"{queue.base}:{key}" for key in _KEYS], [f"{queue.base}:"]) for queue in queues]
    answers = redis.run(script("queue_pulse"), calls)
    before = (now - _TOO_LONG).timestamp() * 1000
    return [
        _alert(queue, waiting, datetime.fromtimestamp(added / 1000, UTC), now)
        for queue, (waiting, active, added, moved) in zip(queues, answers, strict=True)
        if waiting and 0 < added < before and moved < before and not (queue.patient and active)
    ]


def _queues(settings: Settings, jobs: Sequence[Job[Any]]) -> Iterator[_Queue]:
    for channel in CHANNELS:
        yield _Queue(base_of(settings, channel), f"mauntic-jobs deliver {channel}", patient=False)
    for name in dict.fromkeys(job.queue for job in jobs):
        yield _Queue(f"{settings.queue_prefix}:{name}", f"mauntic-jobs work {name}", patient=True)


def _alert(queue: _Queue, waiting: int, since: datetime, now: datetime) -> Alert:
    age = format_duration(timedelta(seconds=round((now - since).total_seconds())))
    jobs = f"{waiting:,} jobs wait" if waiting > 1 else "A job waits"
    return Alert(
        cause=Cause.CONSUMER_STUCK,
        key=queue.base,
        severity=Severity.CRITICAL,
        summary=f"{jobs} on {queue.base}, the next for {age}, and nothing is done there: is its consumer running?",
        action=queue.command,
        details={"waiting": waiting, "since": since.isoformat(timespec="seconds")},
    )
