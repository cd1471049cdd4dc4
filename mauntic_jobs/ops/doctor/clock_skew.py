"""Distance of a server's clock from the host's."""

from collections.abc import Callable
from datetime import datetime, timedelta

from mauntic_jobs.ops.doctor.check import Service
from mauntic_jobs.ops.doctor.finding import Finding, error, ok, warning
from mauntic_jobs.runner.clock_skew import MAX_SKEW

_NOTICED = timedelta(seconds=2)


def skew(service: Service, ask: Callable[[], datetime], now: Callable[[], datetime]) -> Finding:
    """Return what the clock of a service is like; `ask` reads it, aware, in UTC."""
    before = now()
    there = ask()
    after = now()
    off = max(before - there, there - after, timedelta())
    if off < _NOTICED:
        return ok(f"the clocks of this host and {service} agree")
    side = "ahead of" if before > there else "behind"
    found = warning if off < MAX_SKEW else error
    return found(
        f"this host's clock is {off.total_seconds():,.0f} s {side} that of {service}",
        "Let both follow a time server: `timedatectl` says whether this host does",
    )
