"""The jobs as the settings want them scheduled, and those that are left out."""

from collections.abc import Mapping
from typing import Any

from mauntic_jobs.cli.output import say
from mauntic_jobs.config import Settings
from mauntic_jobs.errors import ConfigurationError
from mauntic_jobs.job import Job
from mauntic_jobs.jobs.registry import broken_jobs, jobs


def scheduled_jobs(settings: Settings) -> Mapping[str, Job[Any]]:
    """Return the jobs as the settings want them scheduled. Raises ConfigurationError for settings of unknown jobs."""
    unknown = [name for name in settings.jobs if name not in jobs() and name not in broken_jobs()]
    if unknown:
        raise ConfigurationError(
            f"The settings under `jobs` name {', '.join(unknown)}, and there is no such job. The jobs are: "
            f"{', '.join(jobs())}."
        )
    return {name: job.configured(settings) for name, job in jobs().items()}


def name_broken_jobs() -> bool:
    """Say which jobs are left out, and return whether there are any."""
    for name, reason in broken_jobs().items():
        say(f"the job {name} is left out, because it cannot be used: {reason}")
    return bool(broken_jobs())
