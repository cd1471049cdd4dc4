"""Several processes that deliver, and the one that looks after them."""

import asyncio
import gc
import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import NamedTuple

from mauntic_jobs.delivery.process.report_pipe import ReportReceiver, ReportSender
from mauntic_jobs.delivery.process.wiring import DeliveryPlan
from mauntic_jobs.delivery.process.worker_process import WorkerProcess
from mauntic_jobs.delivery.stats import ChannelStats, merged
from mauntic_jobs.errors import ExitCode, UnavailableError
from mauntic_jobs.processes import may_fork, new_process
from mauntic_jobs.settings.settings import Settings

_REPORT_SECONDS = 0.5
_RESTART_SECONDS = 5.0
# Modules that a child imports late. Imported before the fork, they are shared by all.
_IMPORTED_LATER = ("encodings.idna", "redis.asyncio", "structlog", "uvloop")
# A child that has had its time to drain, and has not ended, is killed.
_GRACE_SECONDS = 10.0


class ChildReport(NamedTuple):
    """What a child says of itself; `said` is what it would have said on a terminal that its parent has."""

    stats: dict[str, ChannelStats]
    ready: bool = False
    trouble: str | None = None
    said: tuple[str, ...] = ()


# What a child does: it delivers, and reports over the connection.
Target = Callable[[Settings, DeliveryPlan, Connection], None]


class ProcessSupervisor:
    """Runs `count` processes, and starts those again that die. `target` must be a function of a module.

    Its attributes are those of a WorkerProcess; `stats` are the sums over all processes, also those that have died.
    """

    def __init__(
        self, settings: Settings, plan: DeliveryPlan, count: int, target: Target, log: Callable[[str], None]
    ) -> None:
        self.stopping = False
        self.left = False
        self._settings = settings
        self._plan = plan
        self._count = count
        self._target = target
        self._log = log
        self._forked: dict[int, tuple[BaseProcess, Connection]] = {}
        self._processes: dict[int, BaseProcess] = {}
        self._reports: dict[int, ChildReport] = {}
        self._gone: list[dict[str, ChannelStats]] = []
        self._were_ready = False

    @property
    def stats(self) -> dict[str, ChannelStats]:
        """The numbers by channel."""
        none = {name: ChannelStats(moved=0.0) for name in self._plan.concurrency}
        return merged([none, *self._gone, *(report.stats for report in self._reports.values())])

    @property
    def ready(self) -> bool:
        """Whether all processes deliver."""
        return not self.stopping and [each.ready for each in self._reports.values()] == [True] * self._count

    @property
    def trouble(self) -> str | None:
        """What is in the way of one of them."""
        return next((each.trouble for each in self._reports.values() if each.trouble), None)

    def fork(self) -> None:
        """Start the processes as forks of this one, which share what it has imported; before it has a second thread.

        A process that dies later is started anew, because this one has several threads then.
        """
        if not may_fork():
            return
        for name in _IMPORTED_LATER:
            with suppress(ImportError):
                import_module(name)
        # The collector would write to the pages that are shared.
        gc.collect()
        gc.freeze()
        for number in range(self._count):
            self._forked[number] = self._start(fork=True)

    def stop(self) -> None:
        """Tell all processes to end."""
        self.stopping = True
        for process in self._processes.values():
            process.terminate()

    async def run(self) -> None:
        """Run until all processes have ended. Raises UnavailableError if one of them cannot begin."""
        keepers = [asyncio.create_task(self._keep(number)) for number in range(self._count)]
        try:
            await asyncio.gather(*keepers)
        finally:
            for task in keepers:
                task.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            for process in self._processes.values():
                process.kill()

    async def _keep(self, number: int) -> None:
        """Keep one process running until it ends by itself."""
        while not self.stopping:
            code = await self._run_child(number)
            self.left = self.left or code == ExitCode.TRY_LATER
            if code in (ExitCode.DONE, ExitCode.TRY_LATER) or self.stopping:
                return
            if not self._were_ready:
                raise UnavailableError(f"A delivering process has ended with status {code}; it has said why.")
            self._log(f"process {number} has ended with status {code}, and is started again")
            await asyncio.sleep(_RESTART_SECONDS)

    async def _run_child(self, number: int) -> int:
        """Return how it ended: its status, or below zero the signal that killed it."""
        forked = number in self._forked
        process, reader = self._forked.pop(number) if forked else self._start(fork=False)
        self._processes[number] = process
        loop = asyncio.get_running_loop()
        loop.add_reader(reader.fileno(), self._read, number, reader.fileno(), ReportReceiver(reader.fileno()))
        try:
            await self._ended(process)
        finally:
            loop.remove_reader(reader.fileno())
            reader.close()
            del self._processes[number]
            left = self._reports.pop(number, ChildReport({})).stats
            self._gone.append({name: own.without_present() for name, own in left.items()})
        return process.exitcode or 0

    def _start(self, *, fork: bool) -> tuple[BaseProcess, Connection]:
        """Start a process; return it with the connection over which it reports."""
        reader, writer = Pipe(duplex=False)
        given = self._settings, self._plan, writer
        # Held open in a fork, they would keep others from noticing that this process has died.
        inherited = [reader, *(each for _, each in self._forked.values())]
        process = (
            new_process(_run_forked, (inherited, self._target, *given), fork=True)
            if fork
            else new_process(self._target, given, fork=False)
        )
        process.start()
        # So that the child's end of the pipe is the only one.
        writer.close()
        return process, reader

    def _read(self, number: int, descriptor: int, receiver: ReportReceiver) -> None:
        try:
            reports: list[ChildReport] = receiver.receive()
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(descriptor)
            return
        for report in reports:
            self._reports[number] = report
            for text in report.said:
                self._log(text)
            self._were_ready = self._were_ready or report.ready

    async def _ended(self, process: BaseProcess) -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(process.sentinel, ended.set)
        waiting = asyncio.create_task(ended.wait())
        try:
            while not self.stopping and not waiting.done():
                await asyncio.wait({waiting}, timeout=0.2)
            await asyncio.wait({waiting}, timeout=self._plan.drain_timeout.total_seconds() + _GRACE_SECONDS)
            if not waiting.done():
                process.kill()
            await waiting
        finally:
            loop.remove_reader(process.sentinel)
            process.join()


def _run_forked(
    inherited: Sequence[Connection], target: Target, settings: Settings, plan: DeliveryPlan, writer: Connection
) -> None:
    for connection in inherited:
        connection.close()
    target(settings, plan, writer)


def begin_child() -> None:
    """Make this process one whose parent alone passes on the terminal's signals."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


async def tell_parent(writer: Connection, engine: WorkerProcess, said: deque[str]) -> None:
    """Report to the process that looks after this one, until cancelled; stop the engine if that process has died.

    What has been `said` is taken out and passed on. A parent that does not read, because it was stopped, gets what
    finds room, and holds nothing up.
    """
    sender = ReportSender(writer.fileno())
    try:
        while True:
            _offer(sender, engine, said, ready=engine.ready)
            await asyncio.sleep(_REPORT_SECONDS)
    except asyncio.CancelledError:
        with suppress(OSError):  # there is no one left to report to
            _offer(sender, engine, said, ready=False)
        raise
    except OSError:
        engine.stop()


def _offer(sender: ReportSender, engine: WorkerProcess, said: deque[str], *, ready: bool) -> None:
    lines = tuple(said)
    if sender.offer(ChildReport(engine.stats, ready, engine.trouble, lines)):
        for _ in lines:
            said.popleft()
