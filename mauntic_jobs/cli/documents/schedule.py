"""JSON of the schedule, and of the BullMQ job schedulers."""

from pydantic import AwareDatetime
from typing_extensions import TypedDict

from mauntic_jobs.bullmq import Registration
from mauntic_jobs.runner.request import Status


class LastRunJson(TypedDict):
    """A job's latest run; `run` is its number in the ledger, `seconds` its duration, so far if it is under way."""

    run: int
    status: Status
    started_at: AwareDatetime
    seconds: float
    slot: AwareDatetime | None
    error: str | None


class JobPauseJson(TypedDict):
    """A pause of a job, which an operator has set."""

    until: AwareDatetime
    why: str
    by: str


class StandingJson(TypedDict):
    """A job on the schedule.

    `origin` is where the cron line comes from. `due` are the slots that wait to be run, `overdue_since` the oldest
    of them if it waits for too long. `missed` and `superseded` count slots of the last 30 days. `clocks` are those
    that claimed a slot in the last 24 hours, such as `cron on host-1`. During a `pause` no slot is due.
    """

    job: str
    cron: str
    meaning: str
    catch_up: str
    origin: str
    next: AwareDatetime
    due: list[AwareDatetime]
    overdue_since: AwareDatetime | None
    missed: int
    superseded: int
    clocks: list[str]
    pause: JobPauseJson | None
    last: LastRunJson | None


class SlotJson(TypedDict):
    """A coming slot of a job."""

    slot: AwareDatetime
    job: str


class ScheduleJson(TypedDict):
    """A job's schedule."""

    cron: str
    catch_up: str


class ScheduleChangeJson(TypedDict):
    """A change of a job's schedule in the database."""

    job: str
    before: ScheduleJson
    after: ScheduleJson


class SchedulerJson(TypedDict):
    """What was done, or would be, to the BullMQ job scheduler of a job."""

    job: str
    queue: str
    cron: str
    scheduler: Registration
