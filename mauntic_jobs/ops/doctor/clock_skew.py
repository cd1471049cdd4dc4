"""Distance of a server's clock from the host's."""

from collections.abc import Callable
from datetime import datetime, timedelta

from mauntic_jobs.ops.doctor.check import Service
from mauntic_jobs.ops.doctor.finding import Finding, error, ok, warning

# Hosts that follow NTP are within milliseconds. A minute moves events to another hour, and slots to another time.
_NOTICED = timedelta(seconds=2)
_HARMFUL = timedelta(minutes=1)


def skew(service: Service, ask: Callable[[], datetime], now: Callable[[], datetime]) -> Finding:
    """Return what the clock of a service is like; `ask` reads it, aware, in UTC."""
    before = now()
    there = ask()
    after = now()
    off = max(before - there, there - after, timedelta())
    if off < _NOTICED:
        return ok(f"the clocks of this host and {service} agree")
    side = "ahead of" if before > there else "behind"
    found = warning if off < _HARMFUL else error
    return found(
        f"this host's clock is {off.total_seconds():,.0f} s {side} that of {service}",
        "Let both follow a time server: `timedatectl` says whether this host does",
    )
