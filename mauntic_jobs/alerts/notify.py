"""Notification of alerts: each once, by the first host, and once more when it is over."""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from mauntic_jobs.alerts import ledger
from mauntic_jobs.alerts.alert import Alert, Cause
from mauntic_jobs.alerts.notice import notice_of
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session


@dataclass(frozen=True)
class Notified:
    """What was told: the titles of `told`, and for each of `untold` why no channel took it.

    `broken` says what is wrong with channels that took nothing.
    """

    told: Sequence[str] = field(default_factory=list)
    untold: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)

    def __add__(self, later: "Notified") -> "Notified":
        """Return what was told both times."""
        return Notified([*self.told, *later.told], {**self.untold, **later.untold}, {**self.broken, **later.broken})


def notify(session: Session, settings: Settings, alerts: Sequence[Alert], now: datetime) -> Notified:
    """Write down alerts, and tell of those that are new, or still open after `alert_repeat`."""
    ledger.open_alerts(session, alerts, now)
    return send_due(session, settings, now)


def record(
    session: Session,
    found: Sequence[Alert],
    now: datetime,
    *,
    causes: Sequence[Cause],
    keys: Sequence[str] | None = None,
    until: datetime | None = None,
) -> None:
    """Write down what was found of `causes`, and end what was not found any more; `send_due` tells of both.

    With `keys`, only what they are about is ended; with `until`, only what is of a run whose window ends no later.
    """
    ledger.open_alerts(session, found, now)
    keep = [alert.fingerprint for alert in found]
    ledger.close_alerts(session, causes, now, keep=keep, keys=keys, until=until)


def send_due(session: Session, settings: Settings, now: datetime) -> Notified:
    """Send what is owed, also what another process wrote down, which was perhaps killed before it could send it.

    Nothing is owed twice at once, because it is claimed first; what no channel takes is tried again after some minutes.
    """
    if not settings.alerts:
        return Notified()
    owed = ledger.claim(session, now, settings.alert_repeat)
    if not owed:
        return Notified()
    # Only here: what it needs takes a tenth of a second to load.
    from mauntic_jobs.alerts.dispatch import send_all

    source = settings.launcher_id or socket.gethostname()
    notices = [notice_of(row, source, now) for row in owed]
    outcomes, broken = send_all(settings, notices)
    ledger.record_sent(session, now, list(zip(owed, outcomes, strict=True)))
    titled = list(zip([notice.title for notice in notices], outcomes, strict=True))
    return Notified(
        told=[title for title, outcome in titled if outcome.channel is not None],
        untold={title: outcome.problem for title, outcome in titled if outcome.problem is not None},
        broken=broken,
    )
