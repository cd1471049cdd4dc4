"""The run that answers a slot of a job's cron line: the same request, whoever launches it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from mauntic_jobs.config import Settings
from mauntic_jobs.job import Job, JobOptions, Overlap
from mauntic_jobs.runner.request import Launcher, Request, silent
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres import Session
from mauntic_jobs.window import Window

# How much later than a window the run that covers it may be for: more than any lateness grace.
_LATEST_COVER = timedelta(days=7)

_sql = statements("schedules")


def slot_request(
    job: Job[Any],
    slot: datetime,
    settings: Settings,
    launcher: Launcher,
    now: datetime,
    *,
    tell: Callable[[str], None] = silent,
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
        tell=tell,
    )


def after_others(request: Request, jobs: Mapping[str, Job[Any]]) -> Request:
    """Return the request with those of `jobs` that should have covered its window before."""
    return replace(request, befores=[jobs[name] for name in request.job.after if name in jobs])


def read_remarks(session: Session, request: Request) -> list[str]:
    """Return a remark for each job that should have covered the window before, and has not; show them, too."""
    found = [uncovered(session, request.window, before, request.settings) for before in request.befores]
    remarks = [remark for remark in found if remark]
    for remark in remarks:
        request.tell(f"{request.job.name} {request.window}: {remark}")
    return remarks


def uncovered(session: Session, window: Window, before: Job[Any], settings: Settings) -> str | None:
    """Return a remark if no run of the job has covered the window since it ended."""
    asked = {"job": before.name, "end": window.end, "until": window.end + _LATEST_COVER}
    for row in session.rows(_sql["covering"], asked):
        covered = before.coverage(Window(row["window_start"], row["window_end"]), before.options(), settings)
        if covered.start <= window.start and window.end <= covered.end:
            return None
    return f"{before.name} has not covered all of {window} yet"
