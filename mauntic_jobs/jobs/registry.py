"""The registry: every scheduled job, in the order in which one hour's data passes through them."""

from typing import Any

from mauntic_jobs.job import Job
from mauntic_jobs.jobs.aggregate_hourly import AGGREGATE_HOURLY
from mauntic_jobs.jobs.segment_trigger_eval import SEGMENT_TRIGGER_EVAL

JOBS: dict[str, Job[Any]] = {job.name: job for job in (AGGREGATE_HOURLY, SEGMENT_TRIGGER_EVAL)}
