"""Clocks that differ: the database's decides, and a host that is more than a minute off runs nothing."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from mauntic_jobs.alerts.ledger import list_alerts
from mauntic_jobs.errors import ClockSkewError, ExitCode
from mauntic_jobs.installation import Installation
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.ops.monitor.check import check
from mauntic_jobs.ops.monitor.ledger import watch_ledger
from mauntic_jobs.runner.clock_skew import compare_clocks, database_time
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.runner.request import Launcher, Status
from mauntic_jobs.runner.run import run
from mauntic_jobs.runner.slot_request import slot_request
from mauntic_jobs.scheduler.due import Round
from mauntic_jobs.scheduler.loop import Loop
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.catch_up import Which
from mauntic_jobs.timekeeping.window import Unit
from tests.scheduler.ticking import TABLE, ticking, ticks

HOURLY = JOBS["aggregate-hourly"]
EVERY = ticking("every", "0 * * * *", Which.ALL, timedelta(hours=48))
MINUTELY = ticking("minutely", "* * * * *", Which.ALL, timedelta(hours=48))
AHEAD, BEHIND = timedelta(hours=26), timedelta(hours=-26)
_SETTLED = b"INSERT INTO mauntic_jobs.schedules (job, cron, settled) VALUES (%(job)s, %(cron)s, %(at)s)"
_EARLY = b"""
INSERT INTO mauntic_jobs.runs
    (job, slot, claims_slot, window_start, window_end, launcher, host, pid, version, fencing_token, status, finished_at,
     started_at)
VALUES ('every', %(slot)s, true, %(slot)s, %(slot)s + interval '1 hour', 'schedule', 'h', 1, '0', 1, %(status)s,
        %(started)s, %(started)s)
"""


@pytest.fixture
def ready(session: Session) -> Session:
    session.execute(TABLE)
    return session


def _off(by: timedelta) -> Callable[[], datetime]:
    return lambda: clock.now() + by


def _settle(session: Session, job: str, cron: str, at: datetime) -> None:
    session.execute(_SETTLED, {"job": job, "cron": cron, "at": at})


def _records(session: Session) -> list[object]:
    return [session.rows(b"SELECT * FROM mauntic_jobs." + table) for table in (b"runs", b"schedules")]


@pytest.mark.usefixtures("same_hour")
@pytest.mark.parametrize(("off", "side"), [(AHEAD, "1d2h ahead of"), (BEHIND, "1d2h behind")])
def test_a_look_of_a_clock_that_is_off_runs_nothing_and_settles_nothing(
    settings: Settings, ready: Session, off: timedelta, side: str
) -> None:
    _settle(ready, "every", "0 * * * *", Unit.HOUR.floor(clock.now()) - timedelta(hours=3))
    before = _records(ready)
    looked = Round({"every": EVERY}, settings, _off(off), lambda _: None)
    with pytest.raises(ClockSkewError) as raised:
        list(looked.run())
    assert (side in str(raised.value), "(limit 1m)" in str(raised.value)) == (True, True), raised.value
    assert raised.value.exit_code is ExitCode.CONFIGURATION
    assert _records(ready) == before
    reports = list(Round({"every": EVERY}, settings, clock.now, lambda _: None).run())
    assert [report.status for report in reports] == [Status.SUCCEEDED] * 3


def test_nothing_is_claimed_before_it_has_struck_by_the_clock_of_the_database(
    settings: Settings, ready: Session
) -> None:
    coming = Unit.HOUR.after(clock.now()) + timedelta(hours=1)
    report = run(slot_request(EVERY, coming, settings, Launcher.LOOP, coming))
    assert (report.status, isinstance(report.error, ClockSkewError)) == (Status.FAILED, True)
    assert (list_runs(ready), ticks(ready)) == ([], [])


def test_a_slot_that_a_clock_strikes_seconds_too_early_is_waited_for(settings: Settings, ready: Session) -> None:
    slot = clock.now() + timedelta(seconds=1)
    assert run(slot_request(EVERY, slot, settings, Launcher.LOOP, slot)).status is Status.SUCCEEDED
    (row,) = list_runs(ready)
    assert row["started_at"] >= slot


def test_a_look_that_is_seconds_early_waits_for_the_slot(
    settings: Settings, ready: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = Unit.HOUR.floor(clock.now()) - timedelta(hours=1)
    _settle(ready, "every", "0 * * * *", slot - timedelta(minutes=1))
    offset = [timedelta(seconds=-5)]
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        offset[0] = timedelta()

    monkeypatch.setattr("mauntic_jobs.scheduler.due.time.sleep", wait)
    looked = Round({"every": EVERY}, settings, lambda: slot, lambda _: None, read_time=lambda *_: slot + offset[0])
    assert [report.status for report in looked.run()] == [Status.SUCCEEDED]
    assert waits == [5.0]


@pytest.mark.parametrize("off", [AHEAD, BEHIND])
def test_the_latest_slot_is_refused_by_a_host_whose_clock_is_off(
    settings: Settings, ready: Session, off: timedelta
) -> None:
    here = _off(off)
    request = slot_request(EVERY, Unit.HOUR.floor(here()), settings, Launcher.CRON, here())
    report = run(type(request)(**{**request.__dict__, "host_clock": here}))
    assert (report.exit_code, list_runs(ready)) == (ExitCode.CONFIGURATION, [])
    (alert,) = list_alerts(ready, only_open=True, since=None, limit=9)
    assert (alert["cause"], alert["summary"]) == ("clock skew", str(report.error))
    slot = Unit.HOUR.floor(clock.now())
    request = slot_request(EVERY, slot, settings, Launcher.CRON, clock.now())
    run(type(request)(**{**request.__dict__, "host_clock": clock.now}))
    assert list_alerts(ready, only_open=True, since=None, limit=9) == []


@pytest.mark.usefixtures("same_hour")
def test_settled_slots_of_the_future_are_taken_back_and_run_at_their_time(settings: Settings, ready: Session) -> None:
    this_hour = Unit.HOUR.floor(clock.now())
    begun = this_hour - timedelta(hours=3, minutes=30)
    for hours in range(-3, 20):
        status = "succeeded" if hours % 2 else "missed"
        ready.execute(_EARLY, {"slot": this_hour + timedelta(hours=hours), "status": status, "started": begun})
    _settle(ready, "every", "0 * * * *", this_hour + timedelta(hours=19))
    (alert,) = check(Installation(settings, database_time(ready), [EVERY], session=ready))
    assert "which is yet to come" in alert.summary
    said: list[str] = []
    list(Round({"every": EVERY}, settings, clock.now, said.append).run())
    assert [slot for _, slot in ticks(ready)] == [this_hour - timedelta(hours=each) for each in (3, 2, 1, 0)]
    assert sum("a clock was ahead" in line for line in said) == 1
    assert check(Installation(settings, database_time(ready), [EVERY], session=ready)) == []


def test_the_loop_starts_nothing_while_its_clock_is_off_and_says_so_once(
    direct_settings: Settings, ready: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    monkeypatch.setattr("mauntic_jobs.runner.subprocesses.start_slot", lambda *given, **_: started.append(given))
    _settle(ready, "minutely", "* * * * *", clock.now() - timedelta(minutes=5))
    said: list[str] = []
    loop = Loop({"minutely": MINUTELY}, direct_settings, _off(AHEAD), said.append, timedelta(seconds=1))
    before = _records(ready)
    for _ in range(3):
        loop._look()
    assert (started, _records(ready)) == ([], before)
    assert [("ahead of the database's" in line) for line in said] == [True]


def test_the_clock_of_a_host_is_one_alert_until_it_is_right(settings: Settings, ready: Session) -> None:
    for _ in range(3):
        there, skew = compare_clocks(ready, _off(AHEAD))
        watch_ledger(Installation(settings, there, [EVERY], session=ready), skew)
    (alert,) = list_alerts(ready, only_open=True, since=None, limit=9)
    assert (alert["cause"], "1d2h ahead" in alert["summary"]) == ("clock skew", True)
    there, skew = compare_clocks(ready, clock.now)
    watch_ledger(Installation(settings, there, [EVERY], session=ready), skew)
    assert list_alerts(ready, only_open=True, since=None, limit=9) == []
