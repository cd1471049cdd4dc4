"""Alert for a host whose clock differs from the database's."""

import socket

from mauntic_jobs.alerts.alert import Alert, Cause, Severity
from mauntic_jobs.errors import ClockSkewError
from mauntic_jobs.settings.settings import Settings


def host_key(settings: Settings) -> str:
    """Return the name of this host, which alerts about its clock are about."""
    return settings.launcher_id or socket.gethostname()


def clock_skew(error: ClockSkewError, settings: Settings) -> Alert:
    """Return the alert for the clock of this host."""
    return Alert(
        cause=Cause.CLOCK_SKEW,
        key=host_key(settings),
        severity=Severity.ERROR,
        summary=str(error),
        action="mauntic-jobs doctor",
        details={"database_time": error.there.isoformat(timespec="seconds")},
    )
