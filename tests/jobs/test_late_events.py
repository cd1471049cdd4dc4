"""Events that come after their day was recorded are counted on their own day, and reported with their lateness."""

import io
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from mauntic_jobs.cli.status.as_json import as_json
from mauntic_jobs.cli.status.screen import screen
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.job import Row
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.ops.status.findings import findings
from mauntic_jobs.ops.status.read import LateEvents, read_status
from mauntic_jobs.runner.request import Launcher, Report
from mauntic_jobs.runner.run import run
from mauntic_jobs.runner.slot_request import slot_request
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import naive
from tests.pooler import RANDOM_RUNS
from tests.support import Event, contact, organization, reference_rollups, stored_rollups, utc

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
SPRING = organization(99)
ACME, GLOBEX = organization(1), organization(2)


def _event(person: int, at: datetime, owner: int = 1, kind: str = "email_sent") -> Event:
    return Event(organization(owner), contact(person), kind, at)


def _commit(session: Session, *events: Event) -> None:
    session.copy(
        b"COPY analytics.contact_activity (organization_id, contact_id, event_type, event_source, created_at)"
        b" FROM STDIN",
        [(each.organization, each.contact, each.type, str(SPRING), naive(each.at)) for each in events],
    )


def _slot(settings: Settings, name: str, slot: datetime, said: list[str] | None = None) -> Report:
    heard: list[str] = [] if said is None else said
    return run(slot_request(JOBS[name], slot, settings, Launcher.SCHEDULE, slot, log=heard.append))


def _night(settings: Settings, at: datetime, said: list[str] | None = None) -> Report:
    """Run what a night runs for the day before, `at` being its midnight; return the daily report's result."""
    for hour in range(3):
        _slot(settings, "aggregate-hourly", at + hour * HOUR)
    return _slot(settings, "generate-daily-reports", at + 2 * HOUR, said)


def _sent(session: Session) -> dict[Any, Any]:
    rows = session.rows(b"SELECT organization_id, date, sent FROM analytics.campaign_daily_stats")
    return {(row["organization_id"], row["date"]): row["sent"] for row in rows}


def _late(session: Session) -> list[Row]:
    return session.rows(b"SELECT day, organization_id, found_at, events FROM mauntic_jobs.late_events ORDER BY 1, 2, 3")


@pytest.mark.parametrize(
    ("committed", "created"),
    [
        ("2026-10-06T02:30", "2026-10-05T23:59"),  # just too late for the run of 02:00
        ("2026-10-06T12:05", "2026-10-05T09:59"),  # a long transaction
        ("2026-10-07T01:00", "2026-10-05T00:00"),
    ],
)
def test_an_event_that_comes_after_two_is_counted_the_next_night(
    settings: Settings, session: Session, committed: str, created: str
) -> None:
    first = [_event(number, utc("2026-10-05T10:00"), owner) for number in range(5) for owner in (1, 2)]
    _commit(session, *first)
    assert _night(settings, utc("2026-10-06")).counters["late_events"] == 0
    late = _event(9, utc(created))
    assert utc("2026-10-06T02:00") < utc(committed) < utc("2026-10-07T02:00")
    _commit(session, late)
    said: list[str] = []
    report = _night(settings, utc("2026-10-07"), said)
    assert (report.exit_code, report.counters["late_events"], report.counters["late_days"]) == (ExitCode.DONE, 1, 1)
    assert stored_rollups(session) == reference_rollups([*first, late])
    assert _sent(session) == {(ACME, date(2026, 10, 5)): 6, (GLOBEX, date(2026, 10, 5)): 5}
    assert said == ["late events were counted: 2026-10-05 1 event of 1 organization, up to 26 h late"]
    assert _late(session) == [
        {"day": date(2026, 10, 5), "organization_id": ACME, "found_at": utc("2026-10-07T02:00"), "events": 1}
    ]
    assert _night(settings, utc("2026-10-08")).counters["late_events"] == 0


@RANDOM_RUNS
def test_every_late_event_of_a_month_is_in_the_figures_of_one_rebuild(settings: Settings, session: Session) -> None:
    start = utc("2026-09-25")
    events = [_event(number % 7, start + number * timedelta(minutes=137), 1 + number % 3) for number in range(120)]
    # Each comes 0 to 6 days after it was created.
    arrivals = sorted((each.at + (number * 11 % 145) * HOUR, each) for number, each in enumerate(events))
    midnight = start
    while arrivals or midnight < start + 25 * DAY:
        midnight += DAY
        # Those that came before the night's runs; none comes between them.
        _commit(session, *(each for at, each in arrivals if at < midnight))
        arrivals = [(at, each) for at, each in arrivals if at >= midnight]
        assert _night(settings, midnight).exit_code is ExitCode.DONE
        if midnight.day == 1:
            assert _slot(settings, "monthly-usage-summary", midnight + 3 * HOUR).exit_code is ExitCode.DONE
    assert stored_rollups(session) == reference_rollups(events)
    assert _sent(session) == {key[:2]: value[0] for key, value in reference_rollups(events).items()}
    september = [each for each in events if each.at.month == 9]
    monthly = session.rows(
        b"SELECT organization_id, count, unique_count FROM analytics.event_aggregates WHERE channel = 'monthly_summary'"
    )
    assert {row["organization_id"]: (row["count"], row["unique_count"]) for row in monthly} == {
        owner: (
            sum(each.organization == owner for each in september),
            len({each.contact for each in september if each.organization == owner}),
        )
        for owner in (organization(1), organization(2), organization(3))
    }
    assert sum(row["events"] for row in _late(session)) > 60


def test_a_report_that_missed_what_the_rollup_has_is_made_up_for(settings: Settings, session: Session) -> None:
    _commit(session, _event(1, utc("2026-10-05T10:00")))
    _night(settings, utc("2026-10-06"))
    _commit(session, _event(2, utc("2026-10-05T11:00")))
    # An operator rebuilds the rollup by hand, and does not think of the report.
    run(
        slot_request(JOBS["aggregate-hourly"], utc("2026-10-06T01:00"), settings, Launcher.CLI, utc("2026-10-06T09:00"))
    )
    _slot(settings, "aggregate-hourly", utc("2026-10-06T02:00") + 22 * HOUR)
    assert _night(settings, utc("2026-10-07")).exit_code is ExitCode.DONE
    assert _sent(session) == {(ACME, date(2026, 10, 5)): 2}


def test_days_that_no_run_has_recorded_are_rebuilt_and_not_called_late(settings: Settings, session: Session) -> None:
    _commit(session, *(_event(1, utc("2026-10-01T10:00") + number * DAY) for number in range(5)))
    said: list[str] = []
    report = _slot(settings, "generate-daily-reports", utc("2026-10-06T02:00"), said)
    assert (report.counters["late_events"], report.counters["late_days"]) == (0, 4)
    assert "2026-10-01 1 event of 1 organization, no run had recorded the day" in said[0]
    assert _late(session) == []
    assert len(stored_rollups(session)) == 4


def test_the_shrink_guard_holds_for_late_events_too(settings: Settings, session: Session) -> None:
    first = [_event(number, utc("2026-10-05T10:00"), owner) for number in range(5) for owner in (1, 2)]
    _commit(session, *first)
    _night(settings, utc("2026-10-06"))
    # Two contacts are erased, and one of the others has six events more: more events of fewer contacts.
    session.execute(
        b"DELETE FROM analytics.contact_activity WHERE organization_id = %(o)s AND contact_id = ANY (%(c)s)",
        {"o": ACME, "c": [contact(0), contact(1)]},
    )
    more = [_event(2, utc("2026-10-05T11:00")) for _ in range(6)] + [_event(7, utc("2026-10-05T11:00"), 2)]
    _commit(session, *more)
    report = _night(settings, utc("2026-10-07"))
    # The rollup of the first is withheld; its campaign has no fewer events in any figure, and is written.
    assert (report.exit_code, report.counters["withheld"]) == (ExitCode.PARTIAL, 1)
    assert "1 group of 2026-10-05 is withheld" in report.problems[0]
    assert stored_rollups(session)[ACME, date(2026, 10, 5), "email_sent"] == (5, 5)
    assert stored_rollups(session)[GLOBEX, date(2026, 10, 5), "email_sent"] == (6, 6)
    (alert,) = session.rows(b"SELECT fingerprint FROM mauntic_jobs.alerts WHERE closed_at IS NULL")
    assert alert["fingerprint"] == "groups withheld:aggregate-hourly"
    # What is known is not found again.
    again = _night(settings, utc("2026-10-08"))
    assert (again.exit_code, again.counters["late_events"]) == (ExitCode.DONE, 0)


def test_the_setting_says_how_far_back(settings: Settings, session: Session) -> None:
    _commit(session, _event(1, utc("2026-10-01T10:00")))
    report = _slot(
        Settings(**{**settings.model_dump(), "late_events_window": DAY}),
        "generate-daily-reports",
        utc("2026-10-06T02:00"),
    )
    assert report.counters["late_days"] == 0
    none = Settings(**{**settings.model_dump(), "late_events_window": timedelta()})
    assert "late_events" not in _slot(none, "generate-daily-reports", utc("2026-10-07T02:00")).counters


def test_a_look_that_fails_leaves_the_report_itself_whole(settings: Settings, session: Session) -> None:
    _commit(session, _event(1, utc("2026-10-04T10:00")), _event(1, utc("2026-10-05T10:00")))
    session.execute(
        b"CREATE FUNCTION mauntic_jobs.refuse() RETURNS trigger LANGUAGE plpgsql"
        b" AS 'BEGIN RAISE EXCEPTION ''no room''; END'"
    )
    session.execute(
        b"CREATE TRIGGER refuse BEFORE INSERT ON analytics.event_aggregates EXECUTE FUNCTION mauntic_jobs.refuse()"
    )
    report = _slot(settings, "generate-daily-reports", utc("2026-10-06T02:00"))
    assert (report.exit_code, report.counters["inserted"]) == (ExitCode.PARTIAL, 1)
    assert report.problems[0].startswith("the look for late events failed: Postgres refused a statement: no room")
    assert _sent(session) == {(ACME, date(2026, 10, 5)): 1}


def test_status_shows_the_share_of_late_events_by_organization(settings: Settings, session: Session) -> None:
    at = utc("2026-10-05T10:00")
    _commit(session, *(_event(number, at, owner) for number in range(99) for owner in (1, 2)))
    _night(settings, utc("2026-10-06"))
    _commit(session, _event(100, at), *(_event(number, at, 2) for number in range(100, 133)))
    _night(settings, utc("2026-10-07"))
    status = read_status(settings, list(JOBS.values()), utc("2026-10-07T09:00"))
    assert status.late == [LateEvents(str(GLOBEX), 33, 132, 26), LateEvents(str(ACME), 1, 100, 26)]
    assert [each.share for each in status.late] == [0.25, 0.01]
    (finding,) = [each for each in findings(status) if each.subject == "late events"]
    text = f"{GLOBEX} 25.0% (33 of 132, up to 26 h late)"
    assert (finding.urgent, finding.text) == (False, f"2 organizations with at least 1% of late events: {text}")
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(screen(status, 200))
    assert f"late        {text}, {ACME} 1.0% (1 of 100, up to 26 h late)" in console.export_text()
    assert [each["share"] for each in as_json(status)["late_events"]] == [0.25, 0.01]
    later = read_status(settings, list(JOBS.values()), utc("2026-10-20T09:00"))
    assert later.late == []
