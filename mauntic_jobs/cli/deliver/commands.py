"""`deliver`: consumer loops for the delivery queues."""

import asyncio
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from multiprocessing import active_children
from multiprocessing.connection import Connection
from typing import Annotated

import typer

from mauntic_jobs.aio.background import keep_running
from mauntic_jobs.cli.deliver.screen import show_screen
from mauntic_jobs.cli.framework.command import command, root
from mauntic_jobs.cli.framework.output import log
from mauntic_jobs.cli.framework.scraping import Scraper
from mauntic_jobs.delivery.channels import CHANNELS
from mauntic_jobs.delivery.process.metrics import delivery_families
from mauntic_jobs.delivery.process.supervisor import ProcessSupervisor, begin_child, tell_parent
from mauntic_jobs.delivery.process.wiring import DeliveryPlan
from mauntic_jobs.delivery.process.worker_process import WorkerProcess
from mauntic_jobs.delivery.queues import settings_of
from mauntic_jobs.delivery.stats import ChannelStats, summary
from mauntic_jobs.errors import ExitCode, MaunticJobsError, UsageError
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.event_loop import new_event_loop
from mauntic_jobs.stores.postgres.connection import database_url
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.telemetry import stderr
from mauntic_jobs.telemetry.health import serve_health
from mauntic_jobs.telemetry.logs import emit, stay, structured
from mauntic_jobs.telemetry.metrics import build_family, exposition
from mauntic_jobs.timekeeping.window import parse_duration

_STUCK_SECONDS = 120
_SUMMARY_SECONDS = 10.0
_MAX_CONCURRENCY = 1000
# Longer numbers are not read: Python refuses to convert them.
_MAX_DIGITS = 18
_RECENT_LINES = 8
_LAST_LINES_SECONDS = 0.5
# The log levels of outcomes that an operator may have to act on; the others are info.
_LEVELS = {"failed": "error", "expired": "warning"}


@command(root, "deliver", example="mauntic-jobs deliver email --concurrency email=20")
def deliver(
    settings: Settings,
    channels: Annotated[
        list[str] | None, typer.Argument(metavar="[CHANNEL]...", help="email, sms or push. Default: email.")
    ] = None,
    *,
    all_channels: Annotated[bool, typer.Option("--all", help="All three channels.")] = False,
    concurrency: Annotated[
        list[str] | None,
        typer.Option(metavar="CHANNEL=N", help="Messages at once, in each process. Default: 5, 3 and 10."),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, max=64, metavar="N", help="How many processes deliver.")] = 1,
    drain: Annotated[bool, typer.Option("--drain", help="End when the queues are empty.")] = False,
    max_age: Annotated[str, typer.Option(metavar="TIME", help="Older messages expire.")] = "48h",
    drain_timeout: Annotated[
        str,
        typer.Option(metavar="TIME", help="How long what is in flight, or left of a drain, may take."),
    ] = "25s",
) -> None:
    """Deliver the messages on the platform's queues, until SIGTERM or SIGINT."""
    plan = DeliveryPlan(
        concurrency=_concurrency(settings, _chosen(channels or [], all_channels=all_channels), concurrency or []),
        max_age=parse_duration(max_age),
        drain_timeout=parse_duration(drain_timeout),
        until_empty=drain,
    )
    database_url(settings)
    open_redis(settings).close()
    settings = stay(settings)
    on_terminal = sys.stderr.isatty() and sys.stdout.isatty() and not structured()
    log = _Log(quiet=on_terminal)
    source: WorkerProcess | ProcessSupervisor
    if processes > 1:
        source = ProcessSupervisor(settings, plan, processes, partial(_deliver_as_child, quiet=on_terminal), log.log)
        source.fork()
    else:
        source = WorkerProcess(settings, plan, log.log, log.report)
    beside = [lambda: show_screen(source, log.recent)] if on_terminal else [lambda: log.summarize(source)]
    checks = _health(source), lambda: (source.ready, {"ready": source.ready})
    scraper = Scraper(settings)
    health = serve_health(
        settings,
        checks[0],
        ready=checks[1],
        metrics=lambda: scraper.numbers(delivery_families(source.stats)),
        own_metrics=lambda: exposition([build_family(), *delivery_families(source.stats)]),
    )
    with stderr.in_background(), health:
        _run(source, beside, log.log)
    if source.left:
        raise typer.Exit(ExitCode.TRY_LATER)


def _deliver_as_child(settings: Settings, plan: DeliveryPlan, writer: Connection, *, quiet: bool) -> None:
    begin_child()
    stay(settings)
    log = _Log(quiet=quiet)
    engine = WorkerProcess(settings, plan, log.log, log.report)
    with stderr.in_background():
        try:
            _run(engine, [lambda: tell_parent(writer, engine, log.recent)], log.log)
        except MaunticJobsError as error:
            _Log().log(str(error))
            sys.exit(error.exit_code)
    if engine.left:
        sys.exit(ExitCode.TRY_LATER)


def _run(
    source: WorkerProcess | ProcessSupervisor,
    beside: Sequence[Callable[[], Coroutine[object, object, None]]],
    log: Callable[[str], None],
) -> None:
    """Run until it ends or is told to stop; a second signal ends the process at once."""

    def stop(number: signal.Signals) -> None:
        if source.stopping:
            for child in active_children():
                child.kill()
            stderr.flush(_LAST_LINES_SECONDS)
            os._exit(128 + number)
        source.stop()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop, number)
        tasks = [asyncio.create_task(keep_running("the report", each, log)) for each in beside]
        try:
            await source.run()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(run())


class _Log:
    """What is said: as lines, or where a screen is shown kept for it, in `recent`."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.recent: deque[str] = deque(maxlen=_RECENT_LINES)
        self._quiet = quiet

    def log(self, text: str) -> None:
        """Say something about the process."""
        self._note("warning", text)

    def report(self, what: str, job: str, reason: str) -> None:
        """Tell of a job that was not delivered."""
        self._note(_LEVELS.get(what, "info"), what, queue_job=job, reason=reason)

    async def summarize(self, source: WorkerProcess | ProcessSupervisor) -> None:
        """Say what has been done, every ten seconds in which something was."""
        before: dict[str, object] = {}
        while True:
            await asyncio.sleep(_SUMMARY_SECONDS)
            for name, stats in source.stats.items():
                now = summary(stats)
                if now != before.get(name):
                    self._note("info", "summary", channel=name, **now)
                before[name] = now

    def _note(self, level: str, event: str, **details: object) -> None:
        dropped = stderr.take_dropped()
        if dropped:
            self._note("warning", f"lines that stderr did not take, and that were dropped: {dropped:,}")
        if self._quiet:
            self.recent.append(" ".join([event, *map(str, details.values())]))
        elif structured():
            emit(level, event, **details)
        else:
            log(" ".join([event, *(f"{name}={value}" for name, value in details.items())]))


def _health(source: WorkerProcess | ProcessSupervisor) -> Callable[[], tuple[bool, Mapping[str, object]]]:
    def check() -> tuple[bool, Mapping[str, object]]:
        now = time.monotonic()
        details = {
            name: {**summary(stats), "idle_seconds": round(now - stats.moved, 1)}
            for name, stats in source.stats.items()
        }
        stuck = [
            name for name, stats in source.stats.items() if _has_work(stats) and now - stats.moved > _STUCK_SECONDS
        ]
        # A store that is away is no reason to start this process again.
        return not stuck or source.trouble is not None, {"channels": details, "stuck": stuck, "trouble": source.trouble}

    return check


def _has_work(stats: ChannelStats) -> bool:
    return bool(stats.active or stats.queue.get("waiting") or stats.queue.get("prioritized"))


def _chosen(channels: list[str], *, all_channels: bool) -> list[str]:
    unknown = [name for name in channels if name not in CHANNELS]
    if unknown:
        raise UsageError(f"There is no channel {', '.join(unknown)}. The channels are: {', '.join(CHANNELS)}.")
    return list(CHANNELS) if all_channels else list(dict.fromkeys(channels)) or ["email"]


def _concurrency(settings: Settings, channels: list[str], given: list[str]) -> dict[str, int]:
    result = {name: settings_of(settings, name).concurrency or CHANNELS[name].concurrency for name in channels}
    # A comma works too, as in the environment there is one value.
    for text in ",".join(given).split(",") if given else []:
        name, mark, count = text.strip().partition("=")
        if not mark or not count.isdecimal() or len(count) > _MAX_DIGITS or not 0 < int(count) <= _MAX_CONCURRENCY:
            raise UsageError(f"--concurrency {text} is not like email=5, with a number from 1 to {_MAX_CONCURRENCY}.")
        if name not in CHANNELS:
            raise UsageError(f"--concurrency {text}: the channels are: {', '.join(CHANNELS)}.")
        if name in result:
            result[name] = int(count)
    return result
