"""Windows that fail, and what an operator does about them."""

import pytest

from mauntic_jobs.backfill.store import BackfillState, WindowState, read_backfill
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from tests.backfill.fleet import JOB, backfill, state, states
from tests.support import Event, add_events, contact, organization, stored_rollups, utc

_WEEK = ("--window", "2026-10-05/2026-10-12")
_DONE, _FAILED, _WAITING = WindowState.DONE, WindowState.FAILED, WindowState.WAITING


@pytest.fixture
def week(direct_settings: Settings) -> Settings:
    """Return the settings of a database with an event on each day of a week."""
    with connect(direct_settings) as session:
        days = [f"2026-10-{number:02}T10:00" for number in range(5, 12)]
        add_events(session, [Event(organization(1), contact(1), "email_opened", utc(at)) for at in days])
    return direct_settings


def _break(session: Session, *days: str) -> None:
    """Let writing the rollups of these days fail."""
    session.execute(
        b"CREATE FUNCTION refuse_day() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        b" RAISE EXCEPTION 'the disk is full'; END $$"
    )
    for number, day in enumerate(days):
        session.execute(
            f"CREATE TRIGGER refuse_{number} BEFORE INSERT ON analytics.event_aggregates FOR EACH ROW"
            f" WHEN (NEW.date = '{day}') EXECUTE FUNCTION refuse_day()".encode()
        )


def _mend(session: Session) -> None:
    session.execute(b"DROP FUNCTION refuse_day CASCADE")


def test_a_failed_window_keeps_no_other_from_being_run(week: Settings) -> None:
    with connect(week) as session:
        _break(session, "2026-10-06", "2026-10-08")
        done = backfill("run", JOB, *_WEEK, settings=week)
        assert done.returncode == ExitCode.PARTIAL
        assert states(session) == [_DONE, _FAILED, _DONE, _FAILED, _DONE, _DONE, _DONE]
        assert state(session) is BackfillState.ENDED
        assert "the disk is full" in done.stdout
        assert "backfill resume 1 --failed-only" in done.stderr
        # It fails again, and is tried once.
        assert backfill("resume", "1", "--failed-only", settings=week).returncode == ExitCode.PARTIAL
        _mend(session)
        assert backfill("resume", "1", "--failed-only", settings=week).returncode == ExitCode.DONE
        assert states(session) == [_DONE] * 7
        assert len(stored_rollups(session)) == 7


def test_too_many_failures_pause_it(week: Settings) -> None:
    with connect(week) as session:
        _break(session, "2026-10-05", "2026-10-06", "2026-10-07")
        done = backfill("run", JOB, *_WEEK, "--stop-after-failures", "2", settings=week)
        assert done.returncode == ExitCode.FAILED
        assert states(session) == [_FAILED, _FAILED, *[_WAITING] * 5]
        paused = read_backfill(session, 1)
        assert (paused.state, "the disk is full" in str(paused.reason)) == (BackfillState.PAUSED, True)
        _mend(session)
        assert backfill("resume", "1", "--failed-only", settings=week).returncode == ExitCode.PARTIAL
        assert states(session) == [_DONE, _DONE, *[_WAITING] * 5]
        assert state(session) is BackfillState.PAUSED
        assert backfill("resume", "1", settings=week).returncode == ExitCode.DONE
        assert state(session) is BackfillState.ENDED


def test_withheld_groups_are_partial_and_no_failure_that_stops(week: Settings) -> None:
    with connect(week) as session:
        session.execute(
            b"INSERT INTO analytics.event_aggregates (organization_id, date, event_type, count, unique_count)"
            b" SELECT %(org)s, date, 'email_opened', 9, 9"
            b" FROM generate_series('2026-10-05'::date, '2026-10-10', '1 day') AS date",
            {"org": organization(1)},
        )
        add_events(session, [Event(organization(1), contact(1), "x", utc("2026-10-06T10:00"))])
        # By default what has shrunk is left alone.
        assert backfill("run", JOB, *_WEEK, settings=week).returncode == ExitCode.PARTIAL
        assert states(session).count(_DONE) == 2
        done = backfill("run", JOB, *_WEEK, "--reprocess", "all", "--stop-after-failures", "1", settings=week)
        assert done.returncode == ExitCode.PARTIAL
        assert states(session, 2) == [_FAILED, _DONE, *[_FAILED] * 4, _DONE]
        shrunk = backfill("run", JOB, *_WEEK, "--reprocess", "all", "--allow-shrink", settings=week)
        assert shrunk.returncode == ExitCode.DONE
        assert set(stored_rollups(session).values()) == {(1, 1)}


def test_a_fault_of_all_windows_pauses_it_at_the_first(week: Settings) -> None:
    with connect(week) as session:
        session.execute(b"DROP INDEX analytics.mauntic_jobs_event_aggregates_key")
        done = backfill("run", JOB, *_WEEK, settings=week)
        assert done.returncode in (ExitCode.CONFIGURATION, ExitCode.FAILED), done.stderr
        assert "db upgrade" in done.stderr
