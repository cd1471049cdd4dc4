"""One run of one job for one window: attempted, then reported to all that watch how runs end."""

from mauntic_jobs.installation import Installation
from mauntic_jobs.runner.attempts import RunAttempts
from mauntic_jobs.runner.observers import Observers
from mauntic_jobs.runner.request import Report, Request
from mauntic_jobs.telemetry.logs import bound


def run(request: Request) -> Report:
    """Make one run and return how it ended; only a signal or a defect leaves by exception.

    Faults that can pass are tried again under the job's policy. What the job writes and the ledger's `succeeded` are
    committed together, so a run that is killed leaves nothing half done.
    """
    with (
        Installation(request.settings, request.now) as installation,
        bound(job=request.job.name, window=str(request.window), launcher=request.launcher.value),
    ):
        observers = Observers(request, installation)
        ended = RunAttempts(request, installation).run(observers.begin)
        report = observers.end(ended.report)
        if ended.raised is not None:
            raise ended.raised
        return report
