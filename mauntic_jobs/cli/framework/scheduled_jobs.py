"""The jobs as the settings want them scheduled, and those that are left out."""

from collections.abc import Callable, Mapping

from mauntic_jobs.cli.framework.output import log
from mauntic_jobs.errors import ConfigurationError, MaunticJobsError
from mauntic_jobs.job import AnyJob, Job, OptionsT
from mauntic_jobs.jobs.registry import broken_jobs, jobs
from mauntic_jobs.runner.retries import Retries
from mauntic_jobs.runner.schedule_settings import as_stored, read_stored
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect


def scheduled_jobs(settings: Settings) -> Mapping[str, AnyJob]:
    """Return the jobs as the settings want them scheduled. Raises ConfigurationError for settings of unknown jobs."""
    unknown = [name for name in settings.jobs if name not in jobs() and name not in broken_jobs()]
    if unknown:
        raise ConfigurationError(
            f"The settings under `jobs` name {', '.join(unknown)}, and there is no such job. The jobs are: "
            f"{', '.join(jobs())}."
        )
    return {name: job.configured(settings) for name, job in jobs().items()}


def jobs_as_stored(settings: Settings) -> Mapping[str, AnyJob]:
    """Return the jobs as the database wants them scheduled, where one is configured; a sentence says if it is away."""
    scheduled = scheduled_jobs(settings)
    if settings.database_url is None and not settings.embedded:
        return scheduled
    try:
        with connect(settings) as session:
            stored = read_stored(session)
    except MaunticJobsError as error:
        log(f"Schedules that are set in the database are not in this, because it cannot be read: {error}", "warning")
        return scheduled
    return {name: as_stored(job, stored.get(name)) for name, job in scheduled.items()}


def job_as_stored(
    job: Job[OptionsT], settings: Settings, log: Callable[[str], None], *, decides: bool
) -> Job[OptionsT]:
    """Return the job as the settings, and above them the database, want it scheduled.

    Where the cron line `decides` which slot is run, a database that is away is asked again as often as the settings
    say, and then raises UnavailableError: by another line the slot would be another. Otherwise the settings do.
    """

    def read(_: str | None) -> Job[OptionsT]:
        with connect(settings) as session:
            return as_stored(job.configured(settings), read_stored(session).get(job.name))

    try:
        return Retries(job.name, settings.retry_delays(job.name) if decides else (), log).until_done(read)
    except MaunticJobsError:
        if decides:
            raise
        return job.configured(settings)


def name_broken_jobs() -> bool:
    """Say which jobs are left out, and return whether there are any."""
    for name, reason in broken_jobs().items():
        log(f"the job {name} is left out, because it cannot be used: {reason}")
    return bool(broken_jobs())
