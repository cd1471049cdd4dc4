"""BullMQ as a launcher: job schedulers and workers on the platform's queues, in Python.

queue = Queue("redis://redis.example.com:6379/0", "analytics:aggregate-hourly")
register_scheduled_jobs(queue, [ScheduledJob("aggregate-hourly", "0 * * * *")])
create_worker(queue, lambda job: print(job.name)).run()
"""

from mauntic_jobs.bullmq.queue import Queue
from mauntic_jobs.bullmq.schedules import Registration, ScheduledJob, register_scheduled_jobs, unregister_scheduled_jobs
from mauntic_jobs.bullmq.worker import JobHandler, Worker, create_worker
from mauntic_jobs.stores.bullmq.job import GiveBackError, ReceivedJob, UnrecoverableError

__all__ = [
    "GiveBackError",
    "JobHandler",
    "Queue",
    "ReceivedJob",
    "Registration",
    "ScheduledJob",
    "UnrecoverableError",
    "Worker",
    "create_worker",
    "register_scheduled_jobs",
    "unregister_scheduled_jobs",
]
