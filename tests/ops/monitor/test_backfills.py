"""Backfills that no process works on: noticed after ten minutes, and over once they go on or end."""

import pytest

from mauntic_jobs.backfill.plan import BackfillRequest, Reprocess, make_plan
from mauntic_jobs.backfill.store import cancel, create, finish, pause, read_backfill, resume
from mauntic_jobs.backfill.work import BackfillWork
from mauntic_jobs.installation import Installation
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.ops.monitor.conditions.backfills import backfills_stuck
from mauntic_jobs.ops.monitor.watch import watch_all
from mauntic_jobs.ops.status.findings import findings
from mauntic_jobs.ops.status.read import read_status
from mauntic_jobs.runner.request import silent
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping import clock
from tests.support import day

_JOB = JOBS["aggregate-hourly"]


@pytest.fixture
def number(settings: Settings, session: Session) -> int:
    asked = BackfillRequest(_JOB, day("2026-10-05", 2), _JOB.options(), [Reprocess.ALL], False, 1, 5)
    return create(session, asked, make_plan(session, asked, settings, clock.now()))


def _silent_for(session: Session, seconds: int) -> None:
    query = b"UPDATE mauntic_jobs.backfills SET worked_at = clock_timestamp() - %(for)s * interval '1 second'"
    session.execute(query, {"for": seconds})


def _commands(settings: Settings) -> list[str | None]:
    return [each.command for each in findings(read_status(settings, [_JOB], clock.now()))]


def _open(settings: Settings, session: Session) -> list[str]:
    watch_all(Installation(settings, clock.now(), [_JOB], session=session), silent)
    rows = session.rows(b"SELECT fingerprint FROM mauntic_jobs.alerts WHERE closed_at IS NULL ORDER BY fingerprint")
    return [row["fingerprint"] for row in rows if row["fingerprint"].startswith("backfill")]


def test_an_active_backfill_is_stuck_after_ten_minutes(session: Session, number: int) -> None:
    _silent_for(session, 590)
    assert backfills_stuck(session) == []
    _silent_for(session, 601)
    (alert,) = backfills_stuck(session)
    assert alert.summary == (
        "Backfill 1 of aggregate-hourly 2026-10-05/2026-10-07 is not over, 2 windows of 2 left, and no process has "
        "worked on it for 10m."
    )
    assert alert.action == "mauntic-jobs backfill resume 1"
    pause(session, number, "by ops")
    assert backfills_stuck(session) == []


def test_status_names_the_command_once(settings: Settings, session: Session, number: int) -> None:
    assert "mauntic-jobs backfill resume 1" not in _commands(settings)
    _silent_for(session, 601)
    assert _commands(settings).count("mauntic-jobs backfill resume 1") == 1
    assert _open(settings, session) == [f"backfill stuck:{number}"]
    assert _commands(settings).count("mauntic-jobs backfill resume 1") == 1


@pytest.mark.parametrize("end", ["resumed", "canceled", "finished"])
def test_the_alert_is_over_once_the_backfill_goes_on_or_ends(
    settings: Settings, session: Session, number: int, end: str
) -> None:
    _silent_for(session, 601)
    assert _open(settings, session) == [f"backfill stuck:{number}"]
    if end == "canceled":
        cancel(session, number, "by ops")
    else:
        backfill = resume(session, number)
        if end == "finished":
            assert len(list(BackfillWork(backfill, _JOB, settings, clock.now, silent).run())) == 2
            assert finish(session, number, failed_only=False).ended_at
            _silent_for(session, 601)
    assert _open(settings, session) == []
    assert read_backfill(session, number).left == (2 if end == "resumed" else 0)
