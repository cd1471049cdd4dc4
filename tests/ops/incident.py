"""What an incident is: how it happens, how it is noticed, and what puts it right."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from mauntic_jobs.alerts.alert import Cause
from mauntic_jobs.errors import ExitCode
from tests.ops.incident_site import Site

_MONITOR = "monitor run --once"

# Lets it happen, yields, and puts it right.
Happens = Callable[[Site], Iterator[None]]


class Incident(NamedTuple):
    """What happens, the one alert of it, and who else notices.

    `codes` are the commands that are run regularly, with the exit codes of their first run. `doctor` is the area and
    the check of a finding, `status` are words of another one.
    """

    happens: Happens
    cause: Cause
    codes: Mapping[str, ExitCode]
    doctor: tuple[str, str] | None
    status: str | None


def incident(
    among: list[Incident],
    cause: Cause,
    command: str | None = None,
    code: ExitCode = ExitCode.DONE,
    *,
    doctor: tuple[str, str] | None = None,
    status: str | None = None,
    monitor: ExitCode = ExitCode.DONE,
) -> Callable[[Happens], Happens]:
    """Put what happens among other incidents."""

    def register(happens: Happens) -> Happens:
        own = {command: code} if command else {}
        codes = {**own, _MONITOR: monitor}
        among.append(Incident(happens, cause, codes, doctor, status))
        return happens

    return register
