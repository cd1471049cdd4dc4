"""The registry: every scheduled job, in the order in which one hour's data passes through them."""

from typing import Any

from mauntic_jobs.job import Job
from mauntic_jobs.jobs.aggregate_hourly import AGGREGATE_HOURLY
from mauntic_jobs.jobs.generate_daily_reports import GENERATE_DAILY_REPORTS
from mauntic_jobs.jobs.monthly_usage_summary import MONTHLY_USAGE_SUMMARY
from mauntic_jobs.jobs.segment_trigger_eval import SEGMENT_TRIGGER_EVAL
from mauntic_jobs.jobs.stale_execution_cleanup import STALE_EXECUTION_CLEANUP
from mauntic_jobs.jobs.warmup_daily_reset import WARMUP_DAILY_RESET

JOBS: dict[str, Job[Any]] = {
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
