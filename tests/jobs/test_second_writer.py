"""Another program that changes the daily rollups between two runs."""

from datetime import timedelta

import pytest

from mauntic_jobs.errors import ExitCode
from mauntic_jobs.runner.request import Report
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import Window
from tests.support import Event, add_events, contact, organization, request, stored_rollups, utc

DAY = utc("2026-10-05T00:00")
HOUR = timedelta(hours=1)


def _run_at(settings: Settings, hour: int, *, dry_run: bool = False) -> Report:
    window = Window(DAY + (hour - 1) * HOUR, DAY + hour * HOUR)
    return run(request(settings, window, now=DAY + hour * HOUR + timedelta(seconds=5), dry_run=dry_run))


def _open(session: Session, hour: int, count: int) -> None:
    events = [Event(organization(1), contact(n), "email_opened", DAY + hour * HOUR) for n in range(count)]
    add_events(session, events)


def _raise(session: Session, by: int) -> None:
    session.execute(b"UPDATE analytics.event_aggregates SET count = count + %(by)s", {"by": by})


def test_what_stood_there_before_the_first_run_is_not_held_against_another_program(
    settings: Settings, session: Session
) -> None:
    _open(session, 8, 3)
    session.execute(
        b"INSERT INTO analytics.event_aggregates (organization_id, date, event_type, count, unique_count)"
        b" VALUES (%(organization)s, '2026-10-05', 'email_opened', 2, 2)",
        {"organization": organization(1)},
    )
    assert _run_at(settings, 9).exit_code is ExitCode.DONE


@pytest.mark.parametrize(
    ("growth", "sentence"),
    [
        (5, "another program has added the 5 events of 09:00-10:00 to the rollups of 2026-10-05"),
        (12, "another program has added the 12 events of 09:00-11:00 to the rollups of 2026-10-05"),
        (4, "another program has raised the rollups of 2026-10-05 by 4 events"),
        (-1, "another program has lowered the rollups of 2026-10-05 by 1 event"),
    ],
)
def test_growth_is_named_by_the_hours_that_explain_it(
    settings: Settings, session: Session, growth: int, sentence: str
) -> None:
    _open(session, 8, 3)
    _run_at(settings, 9)
    _open(session, 9, 5)
    _open(session, 10, 7)
    _raise(session, growth)
    report = _run_at(settings, 11)
    assert (report.exit_code, report.partial) == (ExitCode.PARTIAL, True)
    assert report.problems[0].startswith(sentence)
    assert next(iter(stored_rollups(session).values())) == (15, 7)
    assert _run_at(settings, 12).exit_code is ExitCode.DONE


def test_hours_that_were_added_are_taken_away_again_although_figures_go_down(
    settings: Settings, session: Session
) -> None:
    _open(session, 8, 3)
    _open(session, 9, 9)
    _run_at(settings, 10)
    _raise(session, 9)
    assert _run_at(settings, 11).exit_code is ExitCode.PARTIAL
    assert next(iter(stored_rollups(session).values())) == (12, 9)


def test_other_growth_is_left_to_the_guard(settings: Settings, session: Session) -> None:
    _open(session, 8, 3)
    _run_at(settings, 9)
    _raise(session, 2)
    report = _run_at(settings, 10)
    assert report.exit_code is ExitCode.REFUSED
    assert next(iter(stored_rollups(session).values())) == (5, 3)


def test_a_rehearsal_records_nothing(settings: Settings, session: Session) -> None:
    _open(session, 8, 3)
    _run_at(settings, 9, dry_run=True)
    assert session.rows(b"SELECT * FROM mauntic_jobs.rollup_days") == []
