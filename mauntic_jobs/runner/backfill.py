"""A window of several buckets, run bucket by bucket, so that a year takes no more memory or lock time than a day."""

from collections.abc import Iterator
from dataclasses import replace

from mauntic_jobs.errors import RefusedError
from mauntic_jobs.runner.request import Report, Request
from mauntic_jobs.runner.run import run
from mauntic_jobs.timekeeping.window import Window


def split(request: Request) -> list[Request]:
    """Return the requests that make up `request`, oldest first; one request where its window lies in one bucket."""
    bucket = request.job.bucket
    if len(list(request.window.split(bucket))) == 1:
        return [request]
    return [
        replace(request, window=_overlap(request.window, covered) or covered, coverage=covered)
        for covered in request.coverage.split(bucket)
    ]


def run_all(requests: list[Request]) -> Iterator[Report]:
    """Make the runs in turn and yield each one's report.

    A bucket that was refused, skipped or done in part does not keep the others from being run; any other failure would
    meet them too, and ends the backfill.
    """
    for request in requests:
        report = run(request)
        yield report
        if report.error is not None and not isinstance(report.error, RefusedError) and not report.overlapped:
            return


def _overlap(window: Window, bucket: Window) -> Window | None:
    start, end = max(window.start, bucket.start), min(window.end, bucket.end)
    return Window(start, end) if start < end else None
