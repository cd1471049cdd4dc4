"""Windows claimed by the rows of their runs."""

from dataclasses import replace
from datetime import timedelta

import pytest

from mauntic_jobs.backfill.plan import BackfillRequest, Reprocess, make_plan
from mauntic_jobs.backfill.store import BackfillState, WindowState, cancel, create, pause, read_backfill, resume
from mauntic_jobs.backfill.work import BackfillWork
from mauntic_jobs.errors import FencedError, LockedError, SlotClaimedError, UnavailableError
from mauntic_jobs.job import Overlap
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.runner import claim as claims
from mauntic_jobs.runner.request import Launcher, Request, silent
from mauntic_jobs.runner.slot_request import uncovered_windows
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import Window
from tests.backfill.fleet import states, successes
from tests.support import Event, add_events, contact, day, organization, request, utc

_JOB = JOBS["aggregate-hourly"]
_DAY, _NEXT, _LAST = (day(f"2026-10-0{number}") for number in (5, 6, 7))
_WAITING, _DONE = WindowState.WAITING, WindowState.DONE


@pytest.fixture
def number(settings: Settings, session: Session) -> int:
    """Return the number of a backfill of three days, each with an event."""
    days = [f"2026-10-0{number}T10:00" for number in (5, 6, 7)]
    add_events(session, [Event(organization(1), contact(1), "email_opened", utc(at)) for at in days])
    return _created(settings, session)


def _created(settings: Settings, session: Session, **changes: object) -> int:
    asked = BackfillRequest(_JOB, day("2026-10-05", 3), _JOB.options(), [Reprocess.MISSING], False, 1, 5)
    asked = replace(asked, **changes)  # type: ignore[arg-type]
    return create(session, asked, make_plan(session, asked, settings, clock.now()))


def _request(settings: Settings, window: Window, number: int) -> Request:
    return request(settings, window, coverage=window, launcher=Launcher.BACKFILL, overlap=Overlap.FAIL, backfill=number)


def _work(settings: Settings, session: Session, number: int) -> BackfillWork:
    return BackfillWork(read_backfill(session, number), _JOB, settings, clock.now, silent)


def test_a_window_is_claimed_once_and_succeeds_once(settings: Settings, session: Session, number: int) -> None:
    first = claims.acquire(session, _request(settings, _DAY, number), 1)
    with pytest.raises(SlotClaimedError, match=f"Backfill {number} has run {first.id} for 2026-10-05/2026-10-06"):
        claims.acquire(session, _request(settings, _DAY, number), 1)
    # Another window is free, beside it.
    claims.acquire(session, _request(settings, _NEXT, number), 1)
    claims.succeed(session, first, {}, None)
    with pytest.raises(SlotClaimedError):
        claims.acquire(session, _request(settings, _DAY, number), 1)
    assert states(session) == [_DONE, WindowState.RUNNING, _WAITING]


def test_a_window_waits_for_the_claim_of_a_live_run_and_is_not_in_its_way(
    settings: Settings, session: Session, number: int
) -> None:
    mine = claims.acquire(session, _request(settings, _DAY, number), 1)
    live = claims.acquire(session, request(settings, _LAST), 1)
    with pytest.raises(LockedError, match=f"is being run by run {live.id}"):
        claims.acquire(session, _request(settings, _NEXT, number), 1)
    claims.succeed(session, live, {}, None)
    claims.succeed(session, mine, {}, None)
    claims.acquire(session, _request(settings, _NEXT, number), 1)


@pytest.mark.parametrize(("change", "state"), [(pause, "paused"), (cancel, "canceled")])
def test_no_window_of_one_that_is_not_active_is_claimed(
    settings: Settings, session: Session, number: int, change: object, state: str
) -> None:
    assert callable(change)
    change(session, number, "a reason")
    with pytest.raises(SlotClaimedError, match=f"Backfill {number} is {state}"):
        claims.acquire(session, _request(settings, _DAY, number), 1)
    assert list(_work(settings, session, number).run()) == []
    assert _work(settings, session, number).run_window(_DAY) is None


def test_a_window_of_a_dead_process_is_run_again_and_the_dead_cannot_commit(
    settings: Settings, session: Session, number: int
) -> None:
    hasty = Settings(**{**settings.model_dump(), "takeover_after": timedelta(seconds=0.3)})
    dead = claims.acquire(session, _request(hasty, _DAY, number), 1)
    report = _work(hasty, session, number).run_window(_DAY)
    assert report is not None
    assert report.error is None
    with pytest.raises(FencedError):
        claims.succeed(session, dead, {}, None)
    assert _work(hasty, session, number).run_window(_DAY) is None
    assert list(successes(session, number).values()) == [1]


def test_windows_are_run_in_their_order(settings: Settings, session: Session, number: int) -> None:
    cancel(session, number, "for another order")
    other = _created(settings, session, newest_first=True)
    begun = [str(report.window) for report in _work(settings, session, other).run()]
    assert begun == ["2026-10-07/2026-10-08", "2026-10-06/2026-10-07", "2026-10-05/2026-10-06"]


def test_a_failed_window_is_tried_again_only_after_a_resume(settings: Settings, session: Session, number: int) -> None:
    claims.fail(session, claims.acquire(session, _request(settings, _DAY, number), 1), "no")
    assert [str(report.window) for report in _work(settings, session, number).run()] == [str(_NEXT), str(_LAST)]
    assert states(session) == [WindowState.FAILED, _DONE, _DONE]
    resume(session, number)
    assert [str(report.window) for report in _work(settings, session, number).run()] == [str(_DAY)]


def test_a_retry_that_is_killed_leaves_the_window_failed(settings: Settings, session: Session, number: int) -> None:
    claims.fail(session, claims.acquire(session, _request(settings, _DAY, number), 1), "no")
    resume(session, number)
    claims.stop(session, claims.acquire(session, _request(settings, _DAY, number), 1), "stopped by signal 15")
    assert states(session)[0] is WindowState.FAILED
    work = replace(_work(settings, session, number), failed_only=True)
    assert [str(report.window) for report in work.run()] == [str(_DAY)]


def test_a_resumed_backfill_must_not_meet_another_of_its_windows(
    settings: Settings, session: Session, number: int
) -> None:
    session.execute(b"UPDATE mauntic_jobs.backfills SET state = 'ended', ended_at = '2026-10-08'")
    other = _created(settings, session)
    with pytest.raises(LockedError, match=f"Backfill {other} of aggregate-hourly"):
        resume(session, number)
    with pytest.raises(LockedError, match=f"Backfill {other} of aggregate-hourly"):
        _created(settings, session)
    cancel(session, other, "it is over")
    assert resume(session, number).state is BackfillState.ACTIVE


def test_one_that_no_process_works_on_says_so(session: Session, number: int) -> None:
    assert not read_backfill(session, number).abandoned
    session.execute(b"UPDATE mauntic_jobs.backfills SET worked_at = worked_at - interval '61 seconds'")
    assert read_backfill(session, number).abandoned
    session.execute(
        b"INSERT INTO mauntic_jobs.runs (job, window_start, window_end, launcher, host, pid, version, fencing_token,"
        b" status, exclusive, backfill_id)"
        b" SELECT 'aggregate-hourly', window_start, window_end, 'backfill', 'h', 1, '0', 1, 'running', false,"
        b" backfill_id FROM mauntic_jobs.backfill_windows LIMIT 1"
    )
    # A window may take longer than that.
    assert not read_backfill(session, number).abandoned


def test_a_windows_own_success_is_no_cover_of_the_day_before(settings: Settings, session: Session, number: int) -> None:
    """A run by hand for a day rebuilds the day before as well; a backfill's window is that day alone."""
    assert [report.error for report in _work(settings, session, number).run()] == [None] * 3
    hours = [Window(utc("2026-10-04T22:00"), utc("2026-10-04T23:00")), Window(utc("2026-10-05T22:00"), _DAY.end)]
    assert uncovered_windows(session, hours, _JOB, settings) == hours[:1]


def test_the_failure_of_a_store_ends_the_work(session: Session, number: int) -> None:
    backfill = read_backfill(session, number)
    nowhere = Settings(database_url="postgresql://127.0.0.1:1/x", max_attempts=1)
    with pytest.raises(UnavailableError):
        list(BackfillWork(backfill, _JOB, nowhere, clock.now, silent).run())
    assert states(session) == [_WAITING] * 3
