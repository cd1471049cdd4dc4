"""The jobs as the settings want them scheduled, and those that are left out."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from mauntic_jobs.cli.framework.output import say
from mauntic_jobs.errors import ConfigurationError, MaunticJobsError, UnavailableError
from mauntic_jobs.job import Job, OptionsT
from mauntic_jobs.jobs.registry import broken_jobs, jobs
from mauntic_jobs.runner.schedule_settings import as_stored, read_stored
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.timekeeping.window import format_duration


def scheduled_jobs(settings: Settings) -> Mapping[str, Job[Any]]:
    """Return the jobs as the settings want them scheduled. Raises ConfigurationError for settings of unknown jobs."""
    unknown = [name for name in settings.jobs if name not in jobs() and name not in broken_jobs()]
    if unknown:
        raise ConfigurationError(
            f"The settings under `jobs` name {', '.join(unknown)}, and there is no such job. The jobs are: "
            f"{', '.join(jobs())}."
        )
    return {name: job.configured(settings) for name, job in jobs().items()}


def jobs_as_stored(settings: Settings) -> Mapping[str, Job[Any]]:
    """Return the jobs as the database wants them scheduled, where one is configured; a sentence says if it is away."""
    scheduled = scheduled_jobs(settings)
    if settings.database_url is None and not settings.embedded:
        return scheduled
    try:
        with connect(settings) as session:
            stored = read_stored(session)
    except MaunticJobsError as error:
        say(f"Schedules that are set in the database are not in this, because it cannot be read: {error}", "warning")
        return scheduled
    return {name: as_stored(job, stored.get(name)) for name, job in scheduled.items()}


def job_as_stored(
    job: Job[OptionsT], settings: Settings, tell: Callable[[str], None], *, decides: bool
) -> Job[OptionsT]:
    """Return the job as the settings, and above them the database, want it scheduled.

    Where the cron line `decides` which slot is run, a database that is away is asked again as often as the settings
    say, and then raises UnavailableError: by another line the slot would be another. Otherwise the settings do.
    """
    delays = iter(settings.retry_delays(job.name))
    while True:
        try:
            with connect(settings) as session:
                return as_stored(job.configured(settings), read_stored(session).get(job.name))
        except MaunticJobsError as error:
            if not decides:
                return job.configured(settings)
            delay = next(delays, None) if isinstance(error, UnavailableError) else None
            if delay is None:
                raise
            tell(f"{job.name}: the next attempt follows in {format_duration(delay)}: {error}")
            time.sleep(delay.total_seconds())


def name_broken_jobs() -> bool:
    """Say which jobs are left out, and return whether there are any."""
    for name, reason in broken_jobs().items():
        say(f"the job {name} is left out, because it cannot be used: {reason}")
    return bool(broken_jobs())
