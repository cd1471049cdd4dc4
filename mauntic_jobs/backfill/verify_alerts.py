"""Alerts of verification: raised for what differs, and over once a look at the same time finds nothing."""

from collections.abc import Sequence
from datetime import datetime

from mauntic_jobs.alerts.alert import Cause
from mauntic_jobs.alerts.figures import figures_differ
from mauntic_jobs.alerts.ledger import list_alerts
from mauntic_jobs.alerts.notify import record
from mauntic_jobs.backfill.verify import VerifiedBucket
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import Window, parse_window

_MAX_OPEN = 10_000


def record_findings(session: Session, job: str, found: Sequence[VerifiedBucket], now: datetime) -> None:
    """Raise the alert of a job for the groups that differ for no reason that is known, or end it.

    An alert about days or months that this look has not compared stays open, and what is found now is added to it.
    """
    unexplained = [
        (each.bucket, figures.unexplained)
        for each in found
        if (figures := each.left or each.figures) is not None and figures.unexplained
    ]
    compared = [each.bucket for each in found if each.error is None]
    unseen = [window for window in _open_windows(session, job) if not _covers(compared, window)]
    if unexplained:
        windows = [bucket for bucket, _ in unexplained] + unseen
        window = Window(min(each.start for each in windows), max(each.end for each in windows))
        groups = sum(count for _, count in unexplained)
        alerts = [figures_differ(job, groups, len(unexplained), window)]
        record(session, alerts, now, causes=[Cause.FIGURES_DIFFER], keys=[job])
    elif not unseen:
        record(session, [], now, causes=[Cause.FIGURES_DIFFER], keys=[job])


def _open_windows(session: Session, job: str) -> list[Window]:
    rows = list_alerts(session, only_open=True, since=None, limit=_MAX_OPEN)
    return [
        parse_window(row["details"]["window"]) for row in rows if row["fingerprint"] == f"{Cause.FIGURES_DIFFER}:{job}"
    ]


def _covers(compared: Sequence[Window], window: Window) -> bool:
    """Return whether the buckets, which are in order, cover a window without a gap."""
    reached = window.start
    for bucket in compared:
        if bucket.start <= reached < bucket.end:
            reached = bucket.end
    return reached >= window.end
