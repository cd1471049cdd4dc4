"""Schedule settings in the database: a job's cron line and catch-up policy, the same for every clock."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from mauntic_jobs.errors import ConfigurationError, UsageError
from mauntic_jobs.job import Job, OptionsT, Row
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.settings.types import JobSettings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.catch_up import CatchUp, parse_catch_up
from mauntic_jobs.timekeeping.cron import check_cron

_sql = statements("schedules")


@dataclass(frozen=True)
class StoredSchedule:
    """What the database sets of a job's schedule; None is left to the settings and the job. `by` is a host."""

    cron: str | None
    catch_up: CatchUp | None
    by: str
    at: datetime


def stored_schedule(row: Row) -> StoredSchedule | None:
    """Return the schedule that a row of `mauntic_jobs.schedules` sets, if it sets one. Raises ConfigurationError."""
    cron, catch_up = row["wanted_cron"], row["wanted_catch_up"]
    if cron is None and catch_up is None:
        return None
    try:
        policy = parse_catch_up(catch_up) if catch_up is not None else None
        return StoredSchedule(
            check_cron(cron) if cron is not None else None, policy, row["wanted_by"], row["wanted_at"]
        )
    except UsageError as error:
        raise ConfigurationError(
            f"The schedule of {row['job']} in the database cannot be used: {error} Set it anew with `mauntic-jobs "
            "schedule set`."
        ) from None


def read_stored(session: Session) -> dict[str, StoredSchedule]:
    """Return what the database sets, by job. Raises ConfigurationError for what cannot be used."""
    found = {row["job"]: stored_schedule(row) for row in session.rows(_sql["stored"])}
    return {job: stored for job, stored in found.items() if stored is not None}


def as_stored(job: Job[OptionsT], stored: StoredSchedule | None) -> Job[OptionsT]:
    """Return the job, which is as the settings want it scheduled, as the database wants it scheduled."""
    if stored is None:
        return job
    return replace(job, cron=stored.cron or job.cron, catch_up=stored.catch_up or job.catch_up)


def store(
    session: Session, job: str, cron: str | None, catch_up: CatchUp | None, settings: Settings
) -> StoredSchedule | None:
    """Set the cron line, the catch-up policy or both for every clock, and return what was set before."""
    before = read_stored(session).get(job)
    session.execute(
        _sql["store"],
        {
            "job": job,
            "cron": cron,
            "catch_up": None if catch_up is None else str(catch_up),
            "by": settings.launcher_id or socket.gethostname(),
        },
    )
    return before


def unset(session: Session, job: str) -> StoredSchedule | None:
    """Leave a job's schedule to the settings again, and return what was set before."""
    before = read_stored(session).get(job)
    session.execute(_sql["unset"], {"job": job})
    return before


def origin(job: str, stored: StoredSchedule | None, settings: Settings) -> str:
    """Return where a job's cron line comes from: database, settings or default."""
    if stored is not None and stored.cron is not None:
        return "database"
    return "settings" if _own(job, settings).cron is not None else "default"


def overruled(job: str, stored: StoredSchedule | None, settings: Settings) -> list[str]:
    """Return a sentence for each setting of this host that the database overrules with another value."""
    own = _own(job, settings)
    pairs: Mapping[str, tuple[object, object]] = (
        {} if stored is None else {"cron": (own.cron, stored.cron), "catch_up": (own.catch_up, stored.catch_up)}
    )
    return [
        f"jobs.{job}.{name} is `{here}` in this host's settings, and `{there}` in the database, which counts"
        for name, (here, there) in pairs.items()
        if here is not None and there is not None and here != there
    ]


def _own(job: str, settings: Settings) -> JobSettings:
    return settings.jobs.get(job, JobSettings())
