"""`work`: a worker for scheduled jobs that BullMQ launches."""

import time
from collections.abc import Mapping, Sequence
from threading import Thread
from typing import Annotated

import typer

from mauntic_jobs.bullmq import Worker, create_worker
from mauntic_jobs.bullmq.launch import SlotLauncher
from mauntic_jobs.bullmq.queue import queue_of
from mauntic_jobs.cli.framework.command import command, root
from mauntic_jobs.cli.framework.output import log
from mauntic_jobs.cli.framework.scheduled_jobs import name_broken_jobs, scheduled_jobs
from mauntic_jobs.cli.framework.scraping import Scraper
from mauntic_jobs.cli.framework.signals import Signals
from mauntic_jobs.errors import ExitCode, UsageError
from mauntic_jobs.job import AnyJob
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.connection import database_url
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.telemetry import stderr
from mauntic_jobs.telemetry.health import serve_health
from mauntic_jobs.telemetry.logs import stay
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import parse_duration

_STUCK_SECONDS = 120
# What a run that was stopped gets to roll back and return its job. A Redis that is away must not keep a process alive.
_GIVE_BACK_SECONDS = 5


@command(root, "work", example="mauntic-jobs work analytics:aggregate-hourly")
def work(
    settings: Settings,
    queues: Annotated[
        list[str] | None, typer.Argument(metavar="[QUEUE]...", help="Only these queues. Default: those of all jobs.")
    ] = None,
    *,
    drain: Annotated[bool, typer.Option("--drain", help="End when no job waits.")] = False,
    drain_timeout: Annotated[str, typer.Option(metavar="TIME", help="How long a run may go on after SIGTERM.")] = "25s",
) -> None:
    """Run the scheduled jobs that BullMQ puts on their queues, one at a time for each queue."""
    # It stays: once it needs this, the files may be those of a later version.
    import mauntic_jobs.jobs.segment_evaluation  # noqa: F401

    settings = stay(settings)
    timeout = parse_duration(drain_timeout).total_seconds()
    chosen = _chosen(queues or [], settings)
    name_broken_jobs()
    # Without it each job would fail for good.
    database_url(settings)
    # By this thread, for several that import the driver at once would wait for each other.
    open_redis(settings).close()
    team = [_Member(jobs, settings) for jobs in chosen]
    health = serve_health(settings, lambda: _health(team), metrics=Scraper(settings).numbers)
    with stderr.in_background(), Signals() as signals, health:
        for member in team:
            member.start(until_empty=drain)
        while any(member.is_alive() for member in team) and not signals.first.wait(0.1):
            pass
        left = _drain(team, signals, timeout)
    for member in team:
        if member.error is not None:
            raise member.error
    raise typer.Exit(ExitCode.TRY_LATER if left else ExitCode.DONE)


class _Member:
    """A worker, the launcher that is its handler, and the thread they live in."""

    def __init__(self, jobs: Sequence[AnyJob], settings: Settings) -> None:
        self.launcher = SlotLauncher(jobs, settings)
        self.worker: Worker = create_worker(
            queue_of(jobs[0], settings), self.launcher, tell=log, check=self.launcher.check_clock
        )
        self.error: Exception | None = None
        self._thread: Thread | None = None

    def start(self, *, until_empty: bool) -> None:
        def run() -> None:
            try:
                self.worker.run(until_empty=until_empty)
            except Exception as error:  # noqa: BLE001 - raised again by the main thread
                log(f"work: {self.worker.queue.name} has stopped: {error}")
                self.error = error

        self._thread = Thread(target=run, name=self.worker.queue.name, daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()


def _chosen(queues: list[str], settings: Settings) -> list[list[AnyJob]]:
    """Return the jobs of each queue that is to be worked on."""
    by_queue: dict[str, list[AnyJob]] = {}
    for job in scheduled_jobs(settings).values():
        by_queue.setdefault(job.queue, []).append(job)
    unknown = [name for name in queues if name not in by_queue]
    if unknown:
        raise UsageError(f"No job has the queue {', '.join(unknown)}. The queues are: {', '.join(by_queue)}.")
    return [by_queue[name] for name in dict.fromkeys(queues or by_queue)]


def _drain(team: list[_Member], signals: Signals, timeout: float) -> bool:
    """Let the runs end; return whether some had to be stopped."""
    for member in team:
        member.worker.stop()
    busy = [member for member in team if member.worker.busy_with is not None]
    if busy:
        log(f"work: stopping; waiting for {', '.join(member.worker.queue.name for member in busy)}")
    _wait_for(busy, signals, timeout)
    left = [member for member in busy if member.is_alive()]
    for member in left:
        log(f"work: stopped the run of {member.worker.queue.name}; its job goes back to the queue")
        member.launcher.stop()
    _wait_for(left, signals, _GIVE_BACK_SECONDS)
    return bool(left)


def _wait_for(members: list[_Member], signals: Signals, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(member.is_alive() for member in members) and time.monotonic() < deadline:
        if signals.second.wait(0.1):
            return


def _health(team: list[_Member]) -> tuple[bool, Mapping[str, object]]:
    now = clock.now()
    workers = [
        {
            "queue": member.worker.queue.name,
            "job": member.worker.busy_with,
            "trouble": member.worker.trouble,
            "looked_at": member.worker.looked_at.isoformat(),
            "alive": member.is_alive(),
        }
        for member in team
    ]
    stuck = [
        member
        for member in team
        if member.worker.busy_with is None
        and member.worker.trouble is None
        and (now - member.worker.looked_at).total_seconds() > _STUCK_SECONDS
    ]
    return not stuck and all(worker["alive"] for worker in workers), {"workers": workers}
