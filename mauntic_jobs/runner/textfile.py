"""The numbers of a run, left in a file for node-exporter: one for each job, so that no two jobs write the same."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mauntic_jobs.runner.request import Report, Request, Status
from mauntic_jobs.telemetry.metrics import JobNumbers, exposition, job_families, samples
from mauntic_jobs.telemetry.textfile import write_textfile
from mauntic_jobs.timekeeping.cron import next_slot

_ENDED = (Status.SUCCEEDED, Status.FAILED, Status.STOPPED, Status.LOST)
_SUCCESS = "mauntic_job_last_success_timestamp_seconds"
_ROWS = "mauntic_job_last_success_rows"


def write_numbers(request: Request, report: Report) -> Report:
    """Write the numbers of a run that has ended, if the settings name a directory, and return its report."""
    if request.settings.metrics_dir is None or report.status not in _ENDED:
        return report
    directory = Path(request.settings.metrics_dir)
    name = f"mauntic_jobs_{request.job.name}"
    numbers = _numbers(request, report)
    if report.status is not Status.SUCCEEDED:
        numbers = _with_success_before(numbers, directory / f"{name}.prom")
    try:
        write_textfile(directory, name, exposition(job_families([numbers])))
    except OSError as error:
        request.log(f"{request.job.name}: cannot write its numbers to {directory}: {error.strerror}")
    return report


def _numbers(request: Request, report: Report) -> JobNumbers:
    succeeded = report.status is Status.SUCCEEDED
    return JobNumbers(
        name=request.job.name,
        next_slot=next_slot(request.job.cron, request.now),
        result="partial" if succeeded and (report.partial or report.problems) else report.status.value,
        started_at=request.now,
        seconds=report.seconds,
        succeeded_at=request.now + timedelta(seconds=report.seconds) if succeeded else None,
        rows=report.counters,
    )


def _with_success_before(numbers: JobNumbers, file: Path) -> JobNumbers:
    """Return the numbers with what the file says of the latest success, which a failure does not change."""
    try:
        before = samples(file.read_text())
        instants = [value for (name, _), value in before.items() if name == _SUCCESS]
        rows = {dict(labels)["counter"]: int(value) for (name, labels), value in before.items() if name == _ROWS}
        succeeded_at = datetime.fromtimestamp(instants[0], UTC) if instants else None
    except (OSError, ValueError, KeyError, OverflowError):  # there is none, or another program wrote it
        return numbers
    return replace(numbers, succeeded_at=succeeded_at, rows=rows)
