"""Two clocks with different cron lines for one job: the slots of both are run, and the monitor names them."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from mauntic_jobs.catch_up import Which
from mauntic_jobs.config import Settings
from mauntic_jobs.ops.monitor.check import check
from mauntic_jobs.ops.monitor.clocks import lines_taking_turns
from mauntic_jobs.runner.ledger import list_runs
from mauntic_jobs.stores.postgres import Session
from mauntic_jobs.telemetry.alerts.alert import Cause
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
    assert alert in check(ready, [HOURLY], settings, start + timedelta(hours=5))


@pytest.mark.parametrize("pause", [7, 20])
def test_looks_between_the_slots_of_both_leave_none_out(settings: Settings, ready: Session, pause: int) -> None:
    start = utc("2026-10-05T09:59")
    look(settings, start, HOURLY)
    for number in range(180 // pause + 1):
        now = start + timedelta(minutes=pause * number)
        look(settings, now, HOURLY if number % 2 else AT_HALF_PAST)
    whole = {slot for slot in _slots(ready) if slot.minute == 0}
    assert {start.replace(hour=hour, minute=0) for hour in range(10, 12)} <= whole


def test_a_line_that_was_changed_for_good_raises_nothing(settings: Settings, ready: Session) -> None:
    look(settings, utc("2026-10-05T10:00:05"), HOURLY)
    for minute in range(30, 40):
        look(settings, utc(f"2026-10-05T10:{minute}:05"), AT_HALF_PAST)
    assert _slots(ready) == [utc("2026-10-05T10:00"), utc("2026-10-05T10:30")]
    assert lines_taking_turns(ready, [HOURLY]) == []
