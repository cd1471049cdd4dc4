"""JSON of BullMQ job schedulers."""

from typing_extensions import TypedDict

from mauntic_jobs.bullmq import Registration


class SchedulerJson(TypedDict):
    """What was done, or would be, to the BullMQ job scheduler of a job."""

    job: str
    queue: str
    cron: str
    scheduler: Registration
