"""Two clocks with different cron lines for one job: the slots of both are run, and the monitor names them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random

import pytest

from mauntic_jobs.alerts.alert import Cause
from mauntic_jobs.installation import Installation
from mauntic_jobs.ops.monitor.check import check
from mauntic_jobs.ops.monitor.conditions.clocks import lines_taking_turns
from mauntic_jobs.ops.monitor.conditions.slots import slots_missed
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.runner.request import Launcher
from mauntic_jobs.scheduler.plan import struck_slots
from mauntic_jobs.scheduler.slots import read_plans, record
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.catch_up import Which
from tests.pooler import RANDOM_RUNS
from tests.scheduler.ticking import TABLE, look, ticking
from tests.support import utc

HOURLY = ticking("hourly", "0 * * * *", Which.ALL, timedelta(hours=48))
AT_HALF_PAST = replace(HOURLY, cron="30 * * * *")


@pytest.fixture
def ready(session: Session) -> Session:
    session.execute(TABLE)
    return session


def _slots(session: Session) -> list[datetime]:
    return sorted(row["slot"] for row in list_runs(session, limit=1000) if row["claims_slot"])


def test_each_slot_of_two_lines_is_run_or_accounted_for(settings: Settings, ready: Session) -> None:
    start = utc("2026-10-05T10:00:05")
    look(settings, start - timedelta(minutes=30), HOURLY)
    other = Settings(**{**settings.model_dump(), "launcher_id": "spare"})
    for half_hours in range(10):
        one = half_hours % 2 == 0
        now = start + timedelta(minutes=30 * half_hours)
        look(settings if one else other, now, HOURLY if one else AT_HALF_PAST)
    first = utc("2026-10-05T10:00")
    assert _slots(ready) == [first + timedelta(minutes=30 * each) for each in range(10)]
    (alert,) = lines_taking_turns(ready, [HOURLY])
    assert (alert.cause, alert.key) == (Cause.SECOND_CLOCK, "hourly")
    assert "`30 * * * *` (schedule on spare) and `0 * * * *` (schedule on " in alert.summary
    assert alert in check(Installation(settings, start + timedelta(hours=5), [HOURLY], session=ready))


@pytest.mark.parametrize("pause", [7, 20, 40, 50, 95])
def test_looks_between_the_slots_of_both_leave_none_out(settings: Settings, ready: Session, pause: int) -> None:
    start = utc("2026-10-05T09:59")
    look(settings, start, HOURLY)
    looks = [start + timedelta(minutes=pause * number) for number in range(1, 420 // pause)]
    for number, now in enumerate(looks):
        look(settings, now, HOURLY if number % 2 else AT_HALF_PAST)
    owed = [utc("2026-10-05T10:00") + timedelta(minutes=30 * each) for each in range(14)]
    assert _slots(ready) == [slot for slot in owed if slot <= looks[-1]]


@RANDOM_RUNS
def test_two_clocks_that_look_at_once_leave_no_slot_of_either_line_without_a_row(
    settings: Settings, ready: Session
) -> None:
    random, start = Random(4), utc("2026-10-05T10:00:05")
    jobs = [replace(HOURLY, cron=cron) for cron in ("*/20 * * * *", "15 * * * *")]
    now = start
    look(settings, now, jobs[0])
    look(settings, now, jobs[1])
    with ThreadPoolExecutor(2) as pool:
        for _ in range(40):
            now += timedelta(minutes=random.choice([3, 20, 45, 70, 200]))
            pair = random.choice([jobs, jobs, jobs[:1], jobs[1:]])
            for each in [pool.submit(look, settings, now, job) for job in pair]:
                each.result()
    look(settings, now, jobs[0])
    look(settings, now, jobs[1])
    owed = set(struck_slots({job.cron for job in jobs}, start, now))
    assert sorted(owed - set(_slots(ready))) == []
    assert {row["status"] for row in list_runs(ready, limit=1000)} <= {"succeeded", "superseded", "missed", "skipped"}


def test_a_clock_that_read_an_older_record_does_not_take_a_change_back(settings: Settings, ready: Session) -> None:
    look(settings, utc("2026-10-05T10:00:05"), HOURLY)
    (old,) = read_plans(Installation(settings, utc("2026-10-05T11:00:05"), [HOURLY], session=ready))
    look(settings, utc("2026-10-05T11:30:05"), AT_HALF_PAST)
    record(ready, [old], settings, Launcher.SCHEDULE, lambda _: None)
    (now,) = ready.rows(b"SELECT cron, former FROM mauntic_jobs.schedules")
    assert now == {"cron": AT_HALF_PAST.cron, "former": []}
    assert _slots(ready) == [
        utc("2026-10-05T10:00"),
        utc("2026-10-05T10:30"),
        utc("2026-10-05T11:00"),
        utc("2026-10-05T11:30"),
    ]


def test_the_monitor_of_a_host_with_another_line_goes_by_the_clocks_line(settings: Settings, ready: Session) -> None:
    look(settings, utc("2026-10-05T10:00:05"), HOURLY)
    assert slots_missed(Installation(settings, utc("2026-10-05T10:50"), [AT_HALF_PAST], session=ready)) == []


def test_a_line_that_was_changed_for_good_raises_nothing(settings: Settings, ready: Session) -> None:
    look(settings, utc("2026-10-05T10:00:05"), HOURLY)
    for minute in range(30, 40):
        look(settings, utc(f"2026-10-05T10:{minute}:05"), AT_HALF_PAST)
    assert _slots(ready) == [utc("2026-10-05T10:00"), utc("2026-10-05T10:30")]
    assert lines_taking_turns(ready, [HOURLY]) == []
