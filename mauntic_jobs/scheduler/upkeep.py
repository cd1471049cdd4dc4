"""Processes of an installation, and the tasks that the clock runs beside the jobs: watching and pruning."""

from datetime import timedelta
from typing import NamedTuple

from mauntic_jobs.errors import ExitCode
from mauntic_jobs.settings.settings import Settings


class Process(NamedTuple):
    """A process that stays: its name in units, what it is for, and its command."""

    name: str
    purpose: str
    command: str


class Task(NamedTuple):
    """A task of upkeep: its slots are `every` so often, `at` after midnight in UTC. A run is ended after `limit`.

    `finds` is the exit code of one that has done its work and found something. `on_demand`: it is started only where
    it has something to do. `by_cron` is its command in a crontab, if another: cron waits for none that still runs.
    """

    name: str
    purpose: str
    command: str
    every: timedelta
    limit: timedelta
    at: timedelta = timedelta()
    needs_redis: bool = False
    finds: ExitCode = ExitCode.DONE
    on_demand: bool = False
    by_cron: str | None = None

    @property
    def cron(self) -> str:
        """The cron line of the slots."""
        if self.every < _HOUR:
            return "* * * * *" if self.every == _MINUTE else f"*/{self.every // _MINUTE} * * * *"
        if self.every == _HOUR:
            return "0 * * * *"
        hours, minutes = divmod(self.at // _MINUTE, 60)
        return f"{minutes} {hours} * * *"


_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)

CLOCK = Process("clock", "runs the scheduled jobs, watches and prunes", "schedule run --loop")
PROCESSES = (CLOCK, Process("deliver", "delivers the messages on the platform's queues", "deliver --all"))

TASKS = (
    Task(
        *("monitor", "watches for conditions that need an operator", "monitor run --once --quiet"),
        *(_MINUTE, timedelta(minutes=5)),
    ),
    Task(
        *("outbox", "puts on their queues what runs have left in the outbox", "outbox publish --wait 55m --quiet"),
        *(_MINUTE, timedelta(hours=1)),
        needs_redis=True,
        finds=ExitCode.PARTIAL,
        on_demand=True,
        by_cron="outbox publish --wait 50s --quiet",
    ),
    Task(
        *("prune", "removes what is older than the settings retain it", "db prune --quiet"),
        *(timedelta(days=1), timedelta(hours=1)),
        at=timedelta(hours=4, minutes=30),
    ),
    # After the reports of the night, which count what came late.
    Task(
        *("verify", "compares the figures of the last week with the raw events", "verify --last 7d --alert --quiet"),
        *(timedelta(days=1), timedelta(hours=2)),
        at=timedelta(hours=5),
        finds=ExitCode.PARTIAL,
    ),
)


def tasks_of(settings: Settings) -> list[Task]:
    """Return the tasks that a clock with these settings runs."""
    return [
        task._replace(every=settings.watch_every) if task.every == _MINUTE else task
        for task in TASKS
        if settings.upkeep and (settings.redis_url is not None or not task.needs_redis)
    ]
