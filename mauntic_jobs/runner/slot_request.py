"""The run that answers a slot of a job's cron line: the same request for every launcher."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from mauntic_jobs.job import AnyJob, JobOptions, Overlap
from mauntic_jobs.runner.request import Launcher, Request, silent
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import Window

# How much later than a window the run that covers it may be for: more than any lateness grace.
_MAX_COVER_DELAY = timedelta(days=7)
# So many runs are read for each window.
_MAX_COVERS = 1_000

_sql = statements("schedules")


def slot_request(
    job: AnyJob,
    slot: datetime,
    settings: Settings,
    launcher: Launcher,
    now: datetime,
    *,
    log: Callable[[str], None] = silent,
    options: JobOptions | None = None,
    overlap: Overlap = Overlap.SKIP,
) -> Request:
    """Return the request to run what `slot` covers, unless another run has claimed the slot."""
    options = options or job.options()
    window = Window.before(slot, job.unit)
    return Request(
        job=job,
        window=window,
        coverage=job.coverage(window, options, settings),
        options=options,
        settings=settings,
        launcher=launcher,
        now=now,
        slot=slot,
        claim_slot=True,
        overlap=overlap,
        log=log,
    )


def after_others(request: Request, jobs: Mapping[str, AnyJob]) -> Request:
    """Return the request with those of `jobs` that should have covered its window before."""
    return replace(request, befores=[jobs[name] for name in request.job.after if name in jobs])


def read_remarks(session: Session, request: Request) -> list[str]:
    """Return a remark for each job that should have covered the window before, and has not; show them, too."""
    remarks = [
        f"{before.name} has not covered all of {request.window} yet"
        for before in request.befores
        if uncovered_windows(session, [request.window], before, request.settings)
    ]
    for remark in remarks:
        request.log(f"{request.job.name} {request.window}: {remark}")
    return remarks


def uncovered_windows(session: Session, windows: Sequence[Window], job: AnyJob, settings: Settings) -> list[Window]:
    """Return those of the windows that no run of the job has covered since they ended; one query for all."""
    if not windows:
        return []
    first, last = min(each.end for each in windows), max(each.end for each in windows)
    asked = {"job": job.name, "end": first, "until": last + _MAX_COVER_DELAY, "most": _MAX_COVERS * len(windows)}
    # Many runs cover the same buckets: of these the latest counts.
    began: dict[Window, datetime] = {}
    for row in session.rows(_sql["covering"], asked):
        window = Window(row["window_start"], row["window_end"])
        covered = window if row["exact"] else job.coverage(window, job.options(), settings)
        began[covered] = max(row["began"], began.get(covered, row["began"]))
    return [
        window
        for window in windows
        if not any(
            covered.start <= window.start and window.end <= covered.end and at >= window.end
            for covered, at in began.items()
        )
    ]
