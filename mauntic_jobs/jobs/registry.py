"""The registry: every scheduled job, in the order in which one hour's data passes through them."""

from collections.abc import Mapping

from mauntic_jobs.errors import ConfigurationError, UsageError
from mauntic_jobs.job import AnyJob
from mauntic_jobs.jobs.aggregate_hourly import AGGREGATE_HOURLY
from mauntic_jobs.jobs.generate_daily_reports import GENERATE_DAILY_REPORTS
from mauntic_jobs.jobs.monthly_usage_summary import MONTHLY_USAGE_SUMMARY
from mauntic_jobs.jobs.plugins import load_plugins
from mauntic_jobs.jobs.segment_trigger_eval import SEGMENT_TRIGGER_EVAL
from mauntic_jobs.jobs.stale_execution_cleanup import STALE_EXECUTION_CLEANUP
from mauntic_jobs.jobs.warmup_daily_reset import WARMUP_DAILY_RESET

# Those of this package.
JOBS: dict[str, AnyJob] = {
    job.name: job
    for job in (
        AGGREGATE_HOURLY,
        GENERATE_DAILY_REPORTS,
        MONTHLY_USAGE_SUMMARY,
        SEGMENT_TRIGGER_EVAL,
        STALE_EXECUTION_CLEANUP,
        WARMUP_DAILY_RESET,
    )
}


def jobs() -> Mapping[str, AnyJob]:
    """Return all jobs by name: those of this package, then those of others."""
    return {**JOBS, **{name: job for name, job in load_plugins()[0].items() if name not in JOBS}}


def find_job(name: str) -> AnyJob:
    """Return one job. Raises UsageError if there is none of that name, ConfigurationError if it cannot be used."""
    if name in broken_jobs():
        raise ConfigurationError(f"The job {name} cannot be used: {broken_jobs()[name]}.")
    if name not in jobs():
        raise UsageError(f"There is no job {name}. The jobs are: {', '.join(jobs())}.")
    return jobs()[name]


def broken_jobs() -> Mapping[str, str]:
    """Return why jobs of other packages cannot be used, by entry point."""
    loaded, broken = load_plugins()
    taken = {name: f"entry point {name}: mauntic-jobs has a job of this name" for name in loaded if name in JOBS}
    return {**broken, **taken}
