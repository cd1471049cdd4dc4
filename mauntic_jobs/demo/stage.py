"""Servers of the demo, and the results of its runs."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from mauntic_jobs.demo.organizations import Profile
from mauntic_jobs.demo.show import Show
from mauntic_jobs.job import AnyJob, Row
from mauntic_jobs.runner.backfill import run_all, split
from mauntic_jobs.runner.request import Launcher, Request
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import Window, parse_last

# The counters of rollups that are no longer as they were, and of what the other jobs do.
CHANGING = ("inserted", "updated", "removed")
DOING = (*CHANGING, "entered", "canceled", "cleared", "kept")

# Shows how far something of so many parts is: the body calls what it is given after each part.
Progress = Callable[[int, str], AbstractContextManager[Callable[[], None]]]


@dataclass(frozen=True)
class Stage:
    """Where and when the story takes place, and with whom."""

    show: Show
    session: Session
    settings: Settings
    progress: Progress
    now: datetime
    days: int
    profiles: Sequence[Profile]

    @property
    def last(self) -> str:
        """The days, as an option of `aggregate-hourly`."""
        return f"--last {self.days}d"

    @property
    def window(self) -> Window:
        """What that option names."""
        return parse_last(f"{self.days}d", self.now)

    @property
    def yesterday(self) -> date:
        """The last full day."""
        return (self.now - timedelta(days=1)).date()


@dataclass(frozen=True)
class RunOutcome:
    """What runs did together: how many there were, their counters added up, and the rows that changed."""

    runs: int
    counters: Counter[str]
    changes: Sequence[Row]

    @property
    def changed(self) -> int:
        """How much is not as it was."""
        return sum(self.counters[name] for name in DOING)


def perform(stage: Stage, job: AnyJob, window: Window, **options: object) -> RunOutcome:
    """Run a job over `window`, in its parts, as its command does. Raises a run's error."""
    chosen = job.options(**options)
    request = Request(
        job=job,
        window=window,
        coverage=job.coverage(window, chosen, stage.settings),
        options=chosen,
        settings=stage.settings,
        launcher=Launcher.DEMO,
        now=stage.now,
    )
    parts = split(request)
    counters: Counter[str] = Counter()
    changes: list[Row] = []
    with stage.progress(len(parts), job.name) as advance:
        for report in run_all(parts):
            if report.error is not None:
                raise report.error
            counters.update(report.counters)
            changes += report.changes
            advance()
    return RunOutcome(len(parts), counters, changes)
