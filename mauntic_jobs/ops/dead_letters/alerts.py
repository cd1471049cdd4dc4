"""Alerts for queues with too many dead letters: one for the kind of error that most of them share."""

from collections.abc import Sequence

from mauntic_jobs.alerts.alert import Alert, Cause, Severity
from mauntic_jobs.alerts.ledger import close_alerts, list_alerts
from mauntic_jobs.alerts.notify import Notified, notify
from mauntic_jobs.ops.dead_letters.error_fingerprint import normalised
from mauntic_jobs.ops.dead_letters.grouping import Group
from mauntic_jobs.ops.dead_letters.store import DeadLetters
from mauntic_jobs.ops.dead_letters.survey import Look
from mauntic_jobs.ops.dead_letters.thresholds import Breach, Measure
from mauntic_jobs.recovery.marker import look, read_marker
from mauntic_jobs.redaction.text import scrub

_CONDITION = " where "
_MAX_OPEN = 10_000


def alert(box: DeadLetters, seen: Look) -> Notified:
    """Tell of the queues with findings, and of those that had some and have none any more."""
    if look(read_marker(box.session, box.settings), box.redis, box.settings, box.now) is None:
        # A Redis that has lost its data shows no dead letters, and ends no alert.
        open_still = [f"{Cause.DEAD_LETTERS}:{key}" for key in still_open(seen)]
        close_alerts(box.session, [Cause.DEAD_LETTERS], box.now, keep=open_still, keys=_own_keys(box, seen))
    return notify(box.session, box.settings, alerts_of(seen), box.now)


def _own_keys(box: DeadLetters, seen: Look) -> list[str]:
    """Return the keys of the open alerts that looks with the same condition have raised, and no others."""
    rows = list_alerts(box.session, only_open=True, since=None, limit=_MAX_OPEN)
    keys = [
        row["fingerprint"].removeprefix(f"{Cause.DEAD_LETTERS}:") for row in rows if row["cause"] == Cause.DEAD_LETTERS
    ]
    return [key for key in keys if key.partition(_CONDITION)[2] == (seen.condition or "")]


def alerts_of(seen: Look) -> list[Alert]:
    """Return an alert for each queue with findings."""
    by_queue: dict[str, list[Breach]] = {}
    for finding in seen.findings:
        by_queue.setdefault(finding.queue, []).append(finding)
    return [_alert(seen, queue, findings) for queue, findings in by_queue.items() if seen.groups[queue]]


def still_open(seen: Look) -> list[str]:
    """Return the keys of alerts that are not over: those of every error that a queue with findings still holds."""
    return [_key(seen, queue, group) for queue, groups in seen.groups.items() for group in groups]


def _alert(seen: Look, queue: str, findings: Sequence[Breach]) -> Alert:
    groups = seen.groups[queue]
    growing = any(finding.measure is Measure.GROWTH for finding in findings)
    worst = max(groups, key=lambda group: group.recent if growing else group.count)
    error = normalised(scrub(worst.example.error))
    return Alert(
        cause=Cause.DEAD_LETTERS,
        key=_key(seen, queue, worst),
        severity=Severity.ERROR if growing else Severity.WARNING,
        summary=f"{queue}: {'; '.join(finding.sentence for finding in findings)}. Most of them: {error}",
        action=f'mauntic-jobs dlq list --jobs --where "fingerprint={worst.fingerprint}"',
        details={"queue": queue, "fingerprint": worst.fingerprint, "count": worst.count, "recent": worst.recent},
    )


def _key(seen: Look, queue: str, group: Group) -> str:
    return f"{queue}/{group.fingerprint}" + (f"{_CONDITION}{seen.condition}" if seen.condition else "")
