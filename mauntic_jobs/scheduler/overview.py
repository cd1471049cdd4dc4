"""Overview of the schedule: each job's next slot, latest run and missed slots, any second clock, and the upkeep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import merge
from itertools import islice, repeat
from typing import Any

from mauntic_jobs.installation import Installation
from mauntic_jobs.job import AnyJob
from mauntic_jobs.runner.job_pause import JobPause
from mauntic_jobs.runner.schedule_settings import origin, overruled
from mauntic_jobs.scheduler.plan import Plan
from mauntic_jobs.scheduler.slots import read_plans
from mauntic_jobs.scheduler.upkeep import Task, tasks_of
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.cron import next_slot, slots

# How far back passed-over slots are counted.
MISSED_WITHIN = timedelta(days=30)

_OF_THE_RUN = ("run", "status", "started_at", "seconds", "slot", "error")

_sql = statements("schedules")
_upkeep_sql = statements("upkeep")


@dataclass(frozen=True)
class Standing:
    """How one job's schedule stands.

    `due` are the slots that wait to be run, or for which another one is run, `overdue_since` the oldest of them if it
    waits for too long. `missed` and `superseded` count the slots that were passed over within 30 days. `clocks` are the
    launchers that claimed a slot within 24 hours: more than one means that a second clock is on. `last` is the latest
    run's row, if there is one: `run`, `status`, `started_at`, `seconds`, `slot`, `error`. `origin` is where the cron
    line comes from, and `overruled` has a sentence for each setting of this host that the database overrules. During a
    `pause` no slot is due.
    """

    job: AnyJob
    next: datetime
    due: Sequence[datetime]
    overdue_since: datetime | None
    missed: int
    superseded: int
    clocks: Sequence[str]
    last: Mapping[str, Any] | None
    origin: str
    overruled: Sequence[str]
    pause: JobPause | None = None


@dataclass(frozen=True)
class TaskStanding:
    """How a task of upkeep stands.

    `last` is the row of its latest run, if there is one: `claimed_by`, `started_at`, `finished_at`, `exit_code`,
    `failures` in a row, `error`.
    """

    task: Task
    next: datetime
    last: Mapping[str, Any] | None


def read_tasks(session: Session, settings: Settings, now: datetime) -> list[TaskStanding]:
    """Return how each task that the clock runs stands at `now`, aware, in UTC. Writes nothing."""
    rows = {row["task"]: row for row in session.rows(_upkeep_sql["list"])}
    tasks = tasks_of(settings)
    return [TaskStanding(task, next_slot(task.cron, now), rows.get(task.name)) for task in tasks]


def read_overview(installation: Installation) -> list[Standing]:
    """Return how each job's schedule stands at the installation's `now`. Writes nothing."""
    now, settings = installation.now, installation.settings
    plans = read_plans(installation)
    since = {"jobs": [job.name for job in installation.jobs], "since": now - MISSED_WITHIN}
    rows = {row["job"]: row for row in installation.session.rows(_sql["overview"], since)}
    return [_standing(each, rows[each.job.name], settings, now) for each in plans]


def upcoming(jobs: Sequence[AnyJob], now: datetime, count: int) -> list[tuple[datetime, AnyJob]]:
    """Return the next `count` slots of all the jobs together, in the order in which they come."""
    lines = [zip(slots(job.cron, now), repeat(number)) for number, job in enumerate(jobs)]
    return [(slot, jobs[number]) for slot, number in islice(merge(*lines), count)]


def _standing(each: Plan, row: Mapping[str, Any], settings: Settings, now: datetime) -> Standing:
    overdue = next(iter(each.waiting), None)
    return Standing(
        job=each.job,
        next=next_slot(each.job.cron, now),
        due=each.waiting,
        overdue_since=overdue if overdue is not None and now - overdue > settings.overdue_after else None,
        missed=row["missed"] + sum(passed.status == "missed" for passed in each.passed),
        superseded=row["superseded"] + sum(passed.status == "superseded" for passed in each.passed),
        clocks=row["clocks"],
        last={name: row[name] for name in _OF_THE_RUN} if row["run"] is not None else None,
        origin=origin(each.job.name, each.known.stored, settings),
        overruled=overruled(each.job.name, each.known.stored, settings),
        pause=each.known.pause,
    )
