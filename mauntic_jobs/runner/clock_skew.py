"""Time of the database: the one clock that all hosts share, and the check of the host's own clock against it."""

import socket
from collections.abc import Callable
from datetime import datetime, timedelta

from mauntic_jobs.errors import ClockSkewError
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import format_duration, naive

# Hosts that follow a time server are within milliseconds. A minute moves slots to another time.
MAX_SKEW = timedelta(minutes=1)

_sql = statements("runs")


def database_time(session: Session) -> datetime:
    """Return the present instant by the database's clock, aware, in UTC."""
    there: datetime = session.row(_sql["time"])["now"]
    return there


def shared_time(session: Session, clock: Callable[[], datetime]) -> datetime:
    """Return the database's time, aware, in UTC, if the host's `clock` agrees with it to within a minute.

    Raises ClockSkewError with the difference otherwise.
    """
    before = clock()
    there = database_time(session)
    after = clock()
    # The reading lies somewhere between the two, so that a slow answer does not count as a difference.
    off = max(before - there, there - after)
    if off > MAX_SKEW:
        raise skew_error(there, off if before > there else -off)
    return there


def compare_clocks(session: Session, clock: Callable[[], datetime]) -> tuple[datetime, ClockSkewError | None]:
    """Return the database's time, and the error if the host's `clock` does not agree with it."""
    try:
        return shared_time(session, clock), None
    except ClockSkewError as skew:
        return skew.there, skew


def skew_error(there: datetime, ahead: timedelta) -> ClockSkewError:
    """Return the error for a host whose clock is `ahead` of the database's; behind it, if that is negative."""
    off = format_duration(timedelta(seconds=round(abs(ahead).total_seconds())))
    side = "ahead of" if ahead > timedelta() else "behind"
    return ClockSkewError(
        f"The clock of {socket.gethostname()} is {off} {side} the database's, where it is "
        f"{naive(there):%Y-%m-%dT%H:%M:%S}Z (limit {format_duration(MAX_SKEW)}). No slot is run until they agree. "
        "Let both follow a time server: `timedatectl` shows whether this host does.",
        there,
    )
