"""Ten years of slots with downtime, clock steps, crashes, and three launchers at once, against a ledger in memory.

The ledger keeps the promises that the database's unique keys keep; `test_due.py` holds the database to them.
"""

from collections import Counter
from datetime import datetime, timedelta
from itertools import takewhile
from random import Random
from typing import Any

import pytest

from mauntic_jobs.config import Settings
from mauntic_jobs.cron import slots
from mauntic_jobs.errors import ClockSkewError
from mauntic_jobs.job import Job
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.runner.request import Status
from mauntic_jobs.runner.shared_time import shared_time
from mauntic_jobs.scheduler.plan import Plan, SlotState, plan
from mauntic_jobs.stores.postgres import Session
from tests.support import utc

_START, _END = utc("2020-01-01T00:30"), utc("2030-01-01T00:30")
_LAUNCHERS = 3
_STEPS = [
    sign * step
    for step in (timedelta(seconds=59), timedelta(seconds=61), timedelta(hours=1), timedelta(hours=73))
    for sign in (1, -1)
]


class _Ledger:
    """What the tables would hold of one job."""

    def __init__(self) -> None:
        self.claims: dict[datetime, Status] = {}
        self.runs: Counter[datetime] = Counter()
        self.cron: str | None = None
        self.settled: datetime | None = None

    def state(self) -> SlotState:
        after = self.settled or _START
        return SlotState(
            self.cron,
            self.settled,
            max(self.claims, default=None),
            frozenset(slot for slot, status in self.claims.items() if slot > after and status is not Status.RUNNING),
            frozenset(slot for slot, status in self.claims.items() if slot > after and status is Status.RUNNING),
        )

    def record(self, made: Plan) -> None:
        if made.news:
            for passed in made.passed:
                self.claims.setdefault(passed.slot, passed.status)
            self.cron = made.cron
            self.settled = max(self.settled or made.settled, made.settled)

    def run(self, slot: datetime, *, crashes: bool) -> None:
        if slot in self.claims:
            return
        if crashes:
            # Its owner falls silent, and the claim is void.
            return
        self.claims[slot] = Status.SUCCEEDED
        self.runs[slot] += 1


def _agreed(there: datetime, skew: timedelta) -> datetime | None:
    """Return the instant at which a host looks whose clock is off by `skew`, if it does."""
    try:
        return shared_time(_Database(there), lambda: there + skew)
    except ClockSkewError:
        return None


class _Database(Session):
    """What tells the time, in place of a connection."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def row(self, *_: object) -> dict[str, Any]:
        return {"now": self._now}


def _simulate(job: Job[Any], random: Random) -> _Ledger:
    ledger, real = _Ledger(), _START
    while real < _END:
        # Mostly an hourly clock that comes when it likes; sometimes hours or weeks of nobody.
        away = random.choice([1, 1, 1, 1, 3, 30, 300, 3000] if job.unit == "hour" else [5, 20, 700, 3000])
        real += timedelta(minutes=random.randint(1, 60 * away))
        skew = random.choice([timedelta()] * 12 + _STEPS)
        together = random.choice([1, 1, 1, _LAUNCHERS])
        moments = [_agreed(real + timedelta(milliseconds=number), skew) for number in range(together)]
        plans = [plan(job, ledger.state(), Settings(), moment) for moment in moments if moment is not None]
        random.shuffle(plans)
        for made in plans:
            ledger.record(made)
        due = [slot for made in plans for slot in made.due]
        random.shuffle(due)
        for slot in due:
            ledger.run(slot, crashes=random.random() < 0.1)
    # In the end somebody comes twice, at the right time and without a crash.
    for _ in range(2):
        made = plan(job, ledger.state(), Settings(), _END)
        ledger.record(made)
        for slot in made.due:
            ledger.run(slot, crashes=False)
    return ledger


@pytest.mark.parametrize("name", list(JOBS))
def test_in_ten_years_every_slot_is_run_once_or_accounted_for(name: str) -> None:
    job = JOBS[name]
    ledger = _simulate(job, Random(name))
    first = min(ledger.claims)
    expected = list(takewhile(lambda slot: slot <= _END, slots(job.cron, first - timedelta(microseconds=1))))
    assert first - _START <= timedelta(days=250), "the first launcher came within months"
    assert sorted(slot for slot in ledger.claims if slot <= _END) == expected
    assert set(ledger.runs.values()) == {1}
    passed = {slot: status for slot, status in ledger.claims.items() if status is not Status.SUCCEEDED}
    assert not set(passed) & set(ledger.runs)
    assert len(ledger.runs) + len(passed) == len(ledger.claims)
    assert passed, "some downtime was longer than the policy bridges"
