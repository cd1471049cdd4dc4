"""Jobs that leave a row for each run, and a clock that tests turn."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from mauntic_jobs.errors import JobFailedError
from mauntic_jobs.job import Context, Job, JobOptions, JobResult
from mauntic_jobs.runner.request import Report
from mauntic_jobs.scheduler.due import Round
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.catch_up import CatchUp, Which
from mauntic_jobs.timekeeping.window import Unit, Window

TABLE = b"CREATE TABLE ticks (job text NOT NULL, start timestamptz NOT NULL, stop timestamptz NOT NULL)"
_TICK = b"INSERT INTO ticks VALUES (%(job)s, %(start)s, %(stop)s)"


def ticking(name: str, cron: str, which: Which, within: timedelta, **more: Any) -> Job[JobOptions]:
    def run(context: Context[JobOptions], window: Window) -> JobResult:
        context.transaction.execute(_TICK, {"job": name, "start": window.start, "stop": window.end})
        return JobResult({"ticks": 1})

    values = {"unit": Unit.HOUR, "bucket": None, "run": run} | more
    return Job(
        name=name,
        summary="Ticks.",
        description="Ticks.",
        cron=cron,
        options=JobOptions,
        catch_up=CatchUp(which, within),
        **values,
    )


def failing(_context: Context[JobOptions], _window: Window) -> JobResult:
    raise JobFailedError("it cannot be done")


def ticks(session: Session) -> list[tuple[str, datetime]]:
    """Return the job and the end of the window, which for these jobs is the slot, of every run in order."""
    return [(row["job"], row["stop"]) for row in session.rows(b"SELECT * FROM ticks ORDER BY job, stop")]


def look(
    settings: Settings,
    now: datetime,
    *jobs: Job[Any],
    log: Callable[[str], None] = lambda _: None,
    dry: bool = False,
    there: datetime | None = None,
) -> tuple[list[Report], Round]:
    """Run what is due at `now`, or at `there` by the database's clock, which tests cannot turn."""
    known = {job.name: job for job in jobs}
    round_ = Round(known, settings, lambda: now, log, dry_run=dry, read_time=lambda *_: there or now)
    return list(round_.run()), round_
