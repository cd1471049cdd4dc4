"""Observers of a run: alerts, heartbeat pings and numbers; none of them changes how the run ended."""

from collections.abc import Callable
from functools import partial

from mauntic_jobs.alerts.heartbeat_pings import Heartbeats
from mauntic_jobs.installation import Installation
from mauntic_jobs.runner.notify import answers_slot, notify_end
from mauntic_jobs.runner.request import Report, Request, Status
from mauntic_jobs.runner.textfile import write_numbers

# A check that was started and does not end stays armed: the slot of such a run is due again, or another's.
_NOT_PINGED = (Status.SKIPPED, Status.LOST, Status.STOPPED)


class Observers:
    """The observers of one run, in the order in which they get its report; each may add to it what it found."""

    def __init__(self, request: Request, installation: Installation) -> None:
        self._request = request
        self._pings = Heartbeats(request.settings, request.job.name) if answers_slot(request) else None
        # The last waits for the ping that the first has begun to send.
        self._observers: list[tuple[str, Callable[[Report], Report]]] = [
            ("no heartbeat", self._ping),
            ("no alerts", partial(notify_end, installation, request)),
            ("no numbers", partial(write_numbers, request)),
            ("no heartbeat", self._await_pings),
        ]

    def begin(self) -> None:
        """Note that the run has its claim."""
        if self._pings:
            self._pings.start()

    def end(self, report: Report) -> Report:
        """Hand the report to each observer, and return it with what they added: alerts that no channel took."""
        for missing, observe in self._observers:
            try:
                report = observe(report)
            except Exception as error:  # noqa: BLE001 - a defect in a report is not to end the runs that follow
                self._request.log(f"{report.job}: {missing}: {type(error).__name__}: {error}")
        return report

    def _ping(self, report: Report) -> Report:
        if self._pings and report.status not in _NOT_PINGED:
            self._pings.end(report.exit_code, f"run {report.run_id}: {report.status}")
        return report

    def _await_pings(self, report: Report) -> Report:
        problem = self._pings.wait() if self._pings else None
        if problem is not None:
            self._request.log(f"{report.job}: a heartbeat was not taken: {problem}")
        return report
