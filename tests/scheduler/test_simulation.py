"""Ten years of slots with downtime, clock steps, crashes, and three launchers at once, against a ledger in memory.

The ledger keeps the promises that the database's unique keys keep; `test_due.py` holds the database to them.
"""

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import takewhile
from random import Random
from typing import Any

import pytest
from croniter import croniter

from mauntic_jobs.errors import ClockSkewError
from mauntic_jobs.job import Job
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.runner.clock_skew import shared_time
from mauntic_jobs.runner.request import Status
from mauntic_jobs.scheduler.idle import idle_until
from mauntic_jobs.scheduler.idle_stamp import Times, is_current
from mauntic_jobs.scheduler.plan import Plan, SlotState, plan, struck_slots
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.catch_up import parse_catch_up
from mauntic_jobs.timekeeping.cron import slots
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
        self.former: tuple[str, ...] = ()
        self.previous: tuple[str, datetime] | None = None
        self.settled: datetime | None = None

    def state(self) -> SlotState:
        after = self.settled or _START
        recent = [slot for slot in self.claims if slot > after]
        running = frozenset(slot for slot in recent if self.claims[slot] is Status.RUNNING)
        return SlotState(
            self.cron,
            self.settled,
            max(self.claims, default=None),
            frozenset(recent) - running,
            running,
            former=self.former,
            previous=self.previous,
        )

    def record(self, made: Plan) -> None:
        if made.news:
            for passed in made.passed:
                self.claims.setdefault(passed.slot, passed.status)
            known = made.known
            if (known.cron, known.settled, known.former) == (self.cron, self.settled, self.former):
                if self.cron is not None and self.cron != made.cron:
                    self.previous = (self.cron, made.at)
                self.cron, self.former, self.settled = made.cron, made.former, made.settled

    def end_runs(self, random: Random) -> None:
        """End some of the runs under way, by a failure, or because their owner is killed, which voids the claim."""
        for slot in [slot for slot, status in self.claims.items() if status is Status.RUNNING]:
            if random.random() < 0.4:
                self.claims[slot] = Status.FAILED
            elif random.random() < 0.1:
                del self.claims[slot]
                self.runs[slot] -= 1

    def forget(self, before: datetime) -> None:
        """Remove claims that no look reads any more, which takes long with all of ten years."""
        last = min(self.settled or before, before)
        self.claims = {slot: status for slot, status in self.claims.items() if slot >= last}

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


# Several jobs have the same line.
_found: dict[Any, tuple[float, datetime]] = {}


@pytest.fixture
def _each_slot_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let croniter remember what it found: the looks go over the same slots, and it takes most of their time."""
    find = croniter._get_next

    def remember(line: croniter, kind: type[datetime], *, is_prev: bool) -> datetime:
        assert (kind, line.tzinfo) == (datetime, None)
        key = (line.cur, *line.expressions, is_prev)
        if key not in _found:
            found = find(line, kind, is_prev=is_prev)
            _found[key] = (line.cur, found)
        line.cur, found = _found[key]
        return found

    monkeypatch.setattr(croniter, "_get_next", remember)


@pytest.mark.slow
@pytest.mark.usefixtures("_each_slot_found_once")
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


_LINES = ("0 * * * *", "30 * * * *", "*/20 * * * *", "15 3 * * *")


def _look(job: Job[Any], ledger: _Ledger, now: datetime, random: Random) -> None:
    """Look as `schedule run` does, until nothing is due; now and then end in between, or leave a run under way."""
    tried: set[datetime] = set()
    while True:
        made = plan(job, ledger.state(), Settings(), now)
        due = [slot for slot in made.due if slot not in tried]
        ledger.record(made)
        if made.changed:
            continue
        if not due or random.random() < 0.05:
            return
        for slot in due:
            tried.add(slot)
            ledger.run(slot, crashes=random.random() < 0.1)
            if slot in ledger.claims and random.random() < 0.1:
                ledger.claims[slot] = Status.RUNNING


def _change_lines(which: str, random: Random) -> tuple[_Ledger, dict[datetime, str]]:
    """Return the ledger of two clocks whose lines are changed at any time, and each slot that was owed, with its line.

    A slot is owed if it is of the line that the ledger held when it struck, or of that of the clock that looks next.
    """
    job = replace(JOBS["aggregate-hourly"], catch_up=parse_catch_up(which))
    ledger, owed, real = _Ledger(), dict[datetime, str](), _START
    lines = [_LINES[0], _LINES[0]]
    ledger.record(plan(job, ledger.state(), Settings(), real))
    while real < _START + timedelta(days=20):
        before, real = real, real + timedelta(minutes=random.randint(1, random.choice([2, 20, 45, 70, 300, 2000])))
        if random.random() < 0.1:
            lines[random.randrange(2)] = random.choice(_LINES)
        line = random.choice(lines)
        for cron in (str(ledger.cron), line):
            owed.update(dict.fromkeys(struck_slots({cron}, before, real), cron))
        ledger.end_runs(random)
        _look(replace(job, cron=line), ledger, real, random)
    ledger.claims.update({slot: Status.FAILED for slot, status in ledger.claims.items() if status is Status.RUNNING})
    _look(replace(job, cron=str(ledger.cron)), ledger, real, Random(0))
    return ledger, owed


@pytest.mark.parametrize("which", ["all/7d", "all/2h", "latest/2h", "none"])
@pytest.mark.parametrize("seed", range(4))
def test_every_slot_of_a_line_that_was_changed_is_accounted_for(which: str, seed: int) -> None:
    ledger, owed = _change_lines(which, Random(f"{which} {seed}"))
    lost = {slot: line for slot, line in owed.items() if slot not in ledger.claims}
    assert (lost, len(owed) > 200) == ({}, True)
    assert max(ledger.runs.values()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("rare", [2, 10, 300])
def test_two_clocks_leave_no_slot_of_either_line_without_a_row_however_rarely_one_looks(rare: int) -> None:
    random, ledger, real = Random(rare), _Ledger(), _START
    often, rarely = (replace(JOBS["aggregate-hourly"], cron=cron) for cron in ("*/20 * * * *", "15 * * * *"))
    for job in (often, rarely):
        _look(job, ledger, real, random)
    for number in range(1000):
        real += timedelta(minutes=random.randint(1, 4))
        ledger.end_runs(random)
        _look(rarely if number % rare == 0 else often, ledger, real, random)
    for job in (often, rarely, often, rarely):
        _look(job, ledger, real, Random(0))
    owed = struck_slots({often.cron, rarely.cron}, _START, real)
    assert [slot for slot in owed if slot not in ledger.claims] == []
    assert max(ledger.runs.values()) == 1


class _Host:
    """A host whose clock is off by `skew`, with the stamp of its last look: what a call that asks nothing goes by."""

    def __init__(self) -> None:
        self.skew, self.boot = timedelta(), 0
        self.stamp: dict[str, Any] | None = None

    def times(self, there: datetime) -> Times:
        return Times((there + self.skew).timestamp(), self.skew.total_seconds(), str(self.boot))

    def set_or_restart(self, random: Random) -> None:
        if random.random() < 0.1:
            self.skew = random.choice([timedelta(), timedelta(minutes=-20), *_STEPS])
        self.boot += random.random() < 0.02

    def call(self, job: Job[Any], ledger: _Ledger, there: datetime, random: Random) -> bool:
        """Call `schedule run` at `there`, the database's time; return whether the stamp has answered."""
        if self.stamp is not None and is_current(self.stamp, self.times(there)):
            made = plan(job, ledger.state(), Settings(), there)
            assert (list(made.due), list(made.passed)) == ([], []), (there, self.skew)
            return True
        self.stamp = None
        if _agreed(there, self.skew) is not None:
            _look(job, ledger, there, random)
            made = plan(job, ledger.state(), Settings(), there)
            until = idle_until([made], [], there, there + self.skew, Settings(watch_every="1h"))
            if until is not None:
                self.stamp = {"times": self.times(there), "until": until.timestamp()}
        return False


@pytest.mark.slow
@pytest.mark.usefixtures("_each_slot_found_once")
@pytest.mark.parametrize("name", list(JOBS))
def test_in_ten_years_no_call_that_asked_nothing_would_have_found_a_slot(name: str) -> None:
    job, random, ledger, real = JOBS[name], Random(name), _Ledger(), _START
    hosts = [_Host() for _ in range(_LAUNCHERS)]
    answered = Counter[bool]()
    while real < _END:
        real += timedelta(minutes=random.randint(1, 60 * random.choice([1, 1, 1, 3, 300, 3000])))
        # All hosts call it for half an hour, and one of them may be gone from there on.
        for _ in range(12):
            real += timedelta(seconds=random.randint(1, 300))
            ledger.end_runs(random)
            host = random.choice(hosts)
            host.set_or_restart(random)
            answered[host.call(job, ledger, real, random)] += 1
        ledger.forget(real - timedelta(days=10))
    assert min(answered.values()) > 300, answered
    assert max(ledger.runs.values()) == 1
