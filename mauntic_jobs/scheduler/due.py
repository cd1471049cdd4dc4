"""One round of all that is due, for a program that another clock calls."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from mauntic_jobs.errors import ClockSkewError, JobFailedError, LockedError, MaunticJobsError, UnavailableError
from mauntic_jobs.installation import Installation
from mauntic_jobs.job import AnyJob
from mauntic_jobs.runner.clock_skew import shared_time
from mauntic_jobs.runner.request import Launcher, Report, Status
from mauntic_jobs.runner.retries import Retries
from mauntic_jobs.runner.slot_request import after_others, slot_request
from mauntic_jobs.scheduler.idle import idle_until
from mauntic_jobs.scheduler.plan import Plan, SkippedSlot, ordered, without
from mauntic_jobs.scheduler.slots import read_plans, record
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping.cron import slots
from mauntic_jobs.timekeeping.window import Window


@dataclass
class Round:
    """One look at what is due, and what follows from it.

    `clock` gives the present instant, aware, in UTC. `passed` gets what was passed over, by job; `log` what is worth
    saying on the way. With `dry_run` nothing is run and nothing written. `watch` looks at the ledger when nothing is
    due any more, or the clocks disagree, and must not raise. `upkeep` starts what is due beside the jobs, whose
    next slots are `task_slots`. `read_time` gives the instant that decides what is due: the database's time, once it
    has been compared with the clock's. `idle_until` becomes the host's time before which nothing falls due, if it is
    known.
    """

    jobs: Mapping[str, AnyJob]
    settings: Settings
    clock: Callable[[], datetime]
    log: Callable[[str], None]
    dry_run: bool = False
    watch: Callable[[Session], None] = lambda _: None
    upkeep: Callable[[Session], None] = lambda _: None
    task_slots: Callable[[datetime], Sequence[datetime]] = lambda _: ()
    read_time: Callable[[Session, Callable[[], datetime]], datetime] = shared_time
    passed: list[tuple[str, SkippedSlot]] = field(default_factory=list)
    idle_until: datetime | None = None

    def run(self) -> Iterator[Report]:
        """Run what is due, in the order of the data, and what falls due meanwhile; yield how each run ended.

        Raises UnavailableError if the database cannot be asked, and ClockSkewError if its clock is not the host's. A
        run that loses the database for good ends the round too.
        """
        tried: set[tuple[str, datetime]] = set()
        while True:
            plans = self._look(tried)
            owners = {each.job.name: each.waits_for for each in plans if each.waits_for}
            due = ordered(plans)
            if not due:
                return
            for job, slot in due:
                tried.add((job.name, slot))
                report = self._answered(job, slot, owners.get(job.name))
                yield report
                if isinstance(report.error, UnavailableError):
                    return

    def _look(self, tried: set[tuple[str, datetime]]) -> list[Plan]:
        plans = self._planned(tried)
        if not (tried and self.dry_run):
            self.passed += [(each.job.name, passed) for each in plans for passed in each.passed]
        return plans

    def _planned(self, tried: set[tuple[str, datetime]]) -> list[Plan]:
        retries = Retries("schedule", self.settings.retry_delays("schedule"), self.log)
        while True:
            left, pause = retries.until_done(lambda _: self._read_connected(tried))
            if pause is None:
                return left
            time.sleep(pause)

    def _read_connected(self, tried: set[tuple[str, datetime]]) -> tuple[list[Plan], float | None]:
        with connect(self.settings) as session:
            return self._read(session, tried)

    def _read(self, session: Session, tried: set[tuple[str, datetime]]) -> tuple[list[Plan], float | None]:
        """Return the plans without what was tried, and for how many seconds to wait before asking again, if at all."""
        if not self.dry_run:
            # Before the clocks are compared: a host whose clock is wrong runs no jobs, but its alerts are raised. After
            # the runs once more, which may have left jobs in the outbox.
            self.upkeep(session)
        here, self.idle_until = self.clock(), None
        try:
            now = self.read_time(session, self.clock)
        except ClockSkewError:
            if not self.dry_run:
                self.watch(session)
            raise
        plans = read_plans(Installation(self.settings, now, list(self.jobs.values()), session=session))
        left = [without(each, tried) for each in plans]
        if self.dry_run:
            return left, None
        if record(session, plans, self.settings, Launcher.SCHEDULE, self.log):
            return left, 0.0
        if any(each.due for each in left):
            return left, None
        pause = self._until_struck(plans, now)
        if pause is None:
            self.watch(session)
            self.idle_until = idle_until(plans, self.task_slots(now), now, here, self.settings)
        return left, pause

    def _until_struck(self, plans: list[Plan], now: datetime) -> float | None:
        """Return in how many seconds the database's clock strikes a slot that the host's clock has struck already."""
        here = self.clock()
        coming = [next(slots(each.job.cron, now)) for each in plans] if here > now else []
        struck = [slot for slot in coming if slot <= here]
        return (max(struck) - now).total_seconds() if struck else None

    def _answered(self, job: AnyJob, slot: datetime, owner: str | None) -> Report:
        try:
            return self._answer(job, slot, owner)
        except Exception as defect:  # noqa: BLE001 - the other jobs are due all the same
            error = defect if isinstance(defect, MaunticJobsError) else _failure(defect)
            self.log(f"schedule: {job.name} {slot:%Y-%m-%dT%H:%M}Z: {error}")
            return Report(job.name, Window.before(slot, job.unit), Status.FAILED, error=error)

    def _answer(self, job: AnyJob, slot: datetime, owner: str | None) -> Report:
        window = Window.before(slot, job.unit)
        if owner is not None:
            waits = LockedError(f"{job.name} is being run ({owner}). The slot stays due.")
            return Report(job.name, window, Status.SKIPPED, error=waits)
        if self.dry_run:
            return Report(job.name, window, Status.DRY_RUN)
        # Most rounds run nothing.
        from mauntic_jobs.runner.run import run

        request = slot_request(job, slot, self.settings, Launcher.SCHEDULE, self.clock(), log=self.log)
        return run(after_others(request, self.jobs))


def _failure(defect: Exception) -> JobFailedError:
    return JobFailedError(f"{type(defect).__name__}: {defect}")
