"""The clock that stays: it sleeps until the next slot, runs each job in its own process, and drains on a signal."""

import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Thread

from mauntic_jobs.errors import ExitCode, MaunticJobsError
from mauntic_jobs.installation import Installation
from mauntic_jobs.job import AnyJob
from mauntic_jobs.runner.clock_skew import shared_time
from mauntic_jobs.runner.request import Launcher
from mauntic_jobs.runner.schedule_settings import overruled
from mauntic_jobs.runner.subprocesses import Children
from mauntic_jobs.scheduler.idle import max_look_interval
from mauntic_jobs.scheduler.plan import Plan, ordered, passed_lines
from mauntic_jobs.scheduler.slots import read_plans, record
from mauntic_jobs.scheduler.upkeep_runner import UpkeepRunner
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.telemetry.health import serve_health
from mauntic_jobs.telemetry.logs import structured
from mauntic_jobs.timekeeping.cron import next_slot

_STOPPING = (signal.SIGTERM, signal.SIGINT)

# The clock is read at least this often, because it may be set, and the machine may sleep.
_MAX_NAP = timedelta(seconds=10)
# When something stands in the way of a slot, or the database is away, the loop looks again after this.
_AGAIN = timedelta(seconds=30)
# A run that ends before it has claimed its slot would do so again: each time the loop waits twice as long, up to this.
_MAX_PAUSE = timedelta(minutes=5)
# While something runs, the ledger is watched this often.
_WATCH_EVERY = timedelta(minutes=5)
# Exit codes of runs that say that they have answered their slot.
_ENDED = (ExitCode.DONE, ExitCode.PARTIAL, ExitCode.FAILED, ExitCode.REFUSED, ExitCode.ALERT_UNDELIVERABLE)
# A loop that has not looked at the clock for so long is stuck.
_STUCK = timedelta(minutes=2)


class Loop:
    """Runs `jobs` at their slots until a signal. `clock` gives the present instant, aware, in UTC.

    `metrics` is what it answers at /metrics. `watch` is called in a thread of its own, and must not raise. `upkeep`
    watches and prunes; by default as the settings want it.
    """

    def __init__(
        self,
        jobs: Mapping[str, AnyJob],
        settings: Settings,
        clock: Callable[[], datetime],
        log: Callable[[str], None],
        drain_timeout: timedelta,
        metrics: Callable[[], bytes] | None = None,
        watch: Callable[[], None] = lambda: None,
        upkeep: UpkeepRunner | None = None,
    ) -> None:
        self._jobs = jobs
        self._lines = {name: job.cron for name, job in jobs.items()}
        self._settings = settings
        self._clock = clock
        self._log = log
        self._drain_timeout = drain_timeout
        self._metrics = metrics
        self._watch = watch
        self._upkeep = upkeep or UpkeepRunner(settings, Launcher.LOOP, log)
        self._max_interval = max_look_interval(settings)
        self._watcher: Thread | None = None
        self._watch_at = clock()
        # What they print goes among the lines of this process.
        self._children = Children(settings, Launcher.LOOP, *(["--json"] if structured() else []))
        self._overruled: list[str] = []
        self._trouble: str | None = None
        self._retry_at: dict[str, datetime] = {}
        self._pauses: dict[str, timedelta] = {}
        self._ended: dict[str, datetime] = {}
        self._awake_at = self._look_at = clock()
        self._signals = 0

    def run(self) -> ExitCode:
        """Run until SIGTERM or SIGINT, then let runs end; DONE, or TRY_LATER if some had to be stopped."""
        with self._wakeup() as wakeup, serve_health(self._settings, self._health, metrics=self._metrics):
            self._log(f"schedule: {len(self._jobs)} jobs, the next slot is {self._next(self._clock()):%Y-%m-%dT%H:%M}Z")
            while not self._signals:
                before, self._awake_at = self._awake_at, self._clock()
                self._upkeep.reap()
                ended = self._reap()
                # A clock that was set back has left the time to look at in a future that may be far.
                if ended or self._awake_at >= self._look_at or self._awake_at < before:
                    self._look()
                    self._watch_at = self._awake_at
                self._watch_beside()
                self._sleep(wakeup, min(self._look_at - self._clock(), _MAX_NAP))
            return self._drain(wakeup)

    def _look(self) -> None:
        """Ask what is due, start what may start, and decide when to look again."""
        now = self._clock()
        try:
            with connect(self._settings) as session:
                # Before the clocks are compared: a host whose clock is wrong runs no jobs, but its alerts are raised.
                self._upkeep.start_due(session)
                there = shared_time(session, self._clock)
                now = self._clock()
                plans = read_plans(Installation(self._settings, there, list(self._jobs.values()), session=session))
                again = record(session, plans, self._settings, Launcher.LOOP, self._log)
        except MaunticJobsError as error:
            if self._trouble is None:
                self._log(f"schedule: cannot look up what is due, and goes on trying: {error}")
            self._trouble = str(error)
            self._look_at = now + _AGAIN
            return
        if self._trouble is not None:
            self._log("schedule: can look up what is due again")
        self._trouble = None
        self._lines = {each.job.name: each.job.cron for each in plans}
        self._tell_of(plans)
        if again:
            # The next look counts the slots of the line that was changed, which may stand for those that are due now.
            self._look_at = now
            return
        self._start(plans, now)
        waiting = any((each.due or each.open) and each.job.name not in self._children for each in plans)
        # The database's clock strikes later than the host's, or earlier, by the difference between the two.
        struck = min([self._next(there), *self._upkeep.next_slots(there)])
        following = min(struck + (now - there), now + self._max_interval)
        self._look_at = min(following, now + _AGAIN) if waiting else following

    def _tell_of(self, plans: list[Plan]) -> None:
        """Tell of slots that are passed over, and once of each setting of this host that the database overrules."""
        for each in plans:
            for line in passed_lines(each.job.name, each.passed):
                self._log(line)
        found = [line for each in plans for line in overruled(each.job.name, each.known.stored, self._settings)]
        for line in found:
            if line not in self._overruled:
                self._log(f"schedule: {line}")
        self._overruled = found

    def _watch_beside(self) -> None:
        """Watch after each look, and while something runs: beside the loop, because telling of it takes its time."""
        idle = self._watcher is None or not self._watcher.is_alive()
        if idle and self._awake_at >= self._watch_at:
            self._watch_at = self._awake_at + _WATCH_EVERY if self._children.names else datetime.max.replace(tzinfo=UTC)
            self._watcher = Thread(target=self._watch, name="watch", daemon=True)
            self._watcher.start()

    def _start(self, plans: list[Plan], now: datetime) -> None:
        busy = {each.job.name for each in plans if each.waits_for or each.job.name in self._children}
        waiting: set[str] = set(busy)
        for each in plans:
            ended = self._ended.pop(each.job.name, None)
            if ended in each.due:
                # The ledger knows of no run of it: its process ended before it had claimed the slot, and would again.
                self._hold(each.job.name, now)
            elif ended is not None or not each.due:
                # Whichever process has answered the slot, the next one does not wait for what held up this one.
                self._pauses.pop(each.job.name, None)
                self._retry_at.pop(each.job.name, None)
        for job, slot in ordered(plans):
            held = {name for name, until in self._retry_at.items() if until > now}
            # What comes after other jobs waits for those that are under way or due before it.
            if job.name not in waiting | held and not waiting.intersection(job.after):
                self._children.start(job.name, slot)
            waiting.add(job.name)

    def _reap(self) -> bool:
        ended = False
        for name, slot, code in self._children.reap():
            ended = True
            if code in _ENDED:
                self._retry_at.pop(name, None)
                self._ended[name] = slot
            else:
                self._hold(name, self._clock())
        return ended

    def _hold(self, name: str, now: datetime) -> None:
        """Start no run of a job for a while, which grows from one time to the next."""
        before = self._pauses.get(name)
        self._pauses[name] = _AGAIN if before is None else min(before * 2, _MAX_PAUSE)
        self._retry_at[name] = now + self._pauses[name]

    def _next(self, now: datetime) -> datetime:
        return min(next_slot(line, now) for line in self._lines.values())

    def _drain(self, wakeup: int) -> ExitCode:
        names = self._children.names
        if names:
            self._log(f"schedule: stopping; waiting for {', '.join(names)}")
        deadline = time.monotonic() + self._drain_timeout.total_seconds()
        while self._children.names and self._signals == 1 and time.monotonic() < deadline:
            self._sleep(wakeup, timedelta(seconds=deadline - time.monotonic()))
            self._reap()
        left = self._children.names
        if left:
            self._log(f"schedule: stopped {', '.join(left)}, whose slots are due again")
            self._children.stop()
        self._upkeep.stop()
        return ExitCode.TRY_LATER if left else ExitCode.DONE

    def _sleep(self, wakeup: int, duration: timedelta) -> None:
        if select.select([wakeup], [], [], max(0.0, duration.total_seconds()))[0]:
            os.read(wakeup, 1024)

    @contextmanager
    def _wakeup(self) -> Iterator[int]:
        """Yield a descriptor that becomes readable whenever a signal arrives or a child ends."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)

        def count(_number: int, _frame: object) -> None:
            self._signals += 1

        before = {number: signal.signal(number, count) for number in _STOPPING}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        wakeup_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        try:
            yield reader
        finally:
            signal.set_wakeup_fd(wakeup_before)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(reader)
            os.close(writer)

    def _health(self) -> tuple[bool, Mapping[str, object]]:
        idle = self._clock() - self._awake_at
        details = {
            "awake_at": self._awake_at.isoformat(),
            "running": self._children.names,
            "next_look": self._look_at.isoformat(),
            "trouble": self._trouble,
        }
        return idle < _STUCK, details
