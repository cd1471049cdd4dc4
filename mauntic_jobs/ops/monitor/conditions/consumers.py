"""Queues on which jobs wait and nothing is done."""

from datetime import datetime, timedelta

from mauntic_jobs.alerts.alert import Alert, Cause, Severity
from mauntic_jobs.installation import Installation
from mauntic_jobs.lua import script
from mauntic_jobs.ops.queues import PlatformQueue, QueueKind, platform_queues
from mauntic_jobs.timekeeping.epoch import instant_of, milliseconds
from mauntic_jobs.timekeeping.window import format_duration

_TOO_LONG = timedelta(minutes=10)
_KEYS = ("wait", "prioritized", "active", "completed", "failed")


def consumers_stuck(installation: Installation) -> list[Alert]:
    """Return an alert for each queue whose next job has waited for ten minutes in which no job began or ended."""
    known = platform_queues(installation.settings, installation.jobs)
    queues = [queue for queue in known if queue.kind is not QueueKind.JOURNEY]
    calls = [([f"{queue.base}:{key}" for key in _KEYS], [f"{queue.base}:"]) for queue in queues]
    answers = installation.redis.run(script("oldest_waiting") + script("queue_pulse"), calls)
    before = milliseconds(installation.now - _TOO_LONG)
    return [
        _alert(queue, waiting, instant_of(added), installation.now)
        for queue, (waiting, active, added, moved) in zip(queues, answers, strict=True)
        # A scheduled job may take as long as it likes.
        if waiting and 0 < added < before and moved < before and not (queue.kind is QueueKind.SCHEDULED and active)
    ]


def _alert(queue: PlatformQueue, waiting: int, since: datetime, now: datetime) -> Alert:
    age = format_duration(timedelta(seconds=round((now - since).total_seconds())))
    jobs = f"{waiting:,} jobs wait" if waiting > 1 else "A job waits"
    return Alert(
        cause=Cause.CONSUMER_STUCK,
        key=queue.base,
        severity=Severity.CRITICAL,
        summary=f"{jobs} on {queue.base}, the next for {age}, and nothing is done there: is its consumer running?",
        action=queue.consumer,
        details={"waiting": waiting, "since": since.isoformat(timespec="seconds")},
    )
