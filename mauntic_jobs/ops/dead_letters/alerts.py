"""Alerts for queues with too many dead letters: one for the kind of error that most of them share."""

from collections.abc import Sequence

from mauntic_jobs.alerts.alert import Alert, Cause, Severity
from mauntic_jobs.alerts.ledger import close_alerts, list_alerts
from mauntic_jobs.installation import Installation
from mauntic_jobs.ops.dead_letters.dead_letter import RUNS
from mauntic_jobs.ops.dead_letters.error_fingerprint import normalised
from mauntic_jobs.ops.dead_letters.grouping import Group
from mauntic_jobs.ops.dead_letters.store import DeadLetters
from mauntic_jobs.ops.dead_letters.survey import Look, look_at_letters
from mauntic_jobs.ops.dead_letters.thresholds import Breach, Measure
from mauntic_jobs.recovery.marker import look, read_marker
from mauntic_jobs.redaction.text import scrub
from mauntic_jobs.settings.types import DeadLetterLimits

_CONDITION = " where "
_MAX_OPEN = 10_000


def letters_over(installation: Installation, limits: DeadLetterLimits, *, of_runs: bool) -> list[Alert]:
    """Return the alerts of queues with too many dead letters, and end those of queues that had too many before.

    Or of the ledger of runs, as one queue, by Postgres alone.
    """
    settings, session, now = installation.settings, installation.session, installation.now
    redis = None if of_runs else installation.redis
    seen = look_at_letters(DeadLetters(settings, now, session=session, redis=redis), limits, of_runs=of_runs)
    # A Redis that has lost its data shows no dead letters, and ends no alert.
    if redis is None or look(read_marker(session, settings), redis, settings, now) is None:
        _end(installation, seen, of_runs=of_runs)
    return alerts_of(seen)


def _end(installation: Installation, seen: Look, *, of_runs: bool) -> None:
    """End the open alerts of what was looked at with this condition, but for errors that are still there.

    Those of a condition that the settings no longer name end as well.
    """
    rows = list_alerts(installation.session, only_open=True, since=None, limit=_MAX_OPEN)
    keys = [
        row["fingerprint"].removeprefix(f"{Cause.DEAD_LETTERS}:") for row in rows if row["cause"] == Cause.DEAD_LETTERS
    ]
    others = {each.where or "" for each in installation.settings.dead_letters} - {seen.condition or ""}
    looked_at = [key for key in keys if key.startswith(f"{RUNS}/") is of_runs]
    over = [key for key in looked_at if key.partition(_CONDITION)[2] not in others]
    keep = [f"{Cause.DEAD_LETTERS}:{key}" for key in still_open(seen)]
    close_alerts(installation.session, [Cause.DEAD_LETTERS], installation.now, keep=keep, keys=over)


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
