import json
from datetime import date, timedelta

import pytest

from mauntic_jobs.errors import ExitCode, RefusedError, UsageError
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.runner.request import Status
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import Window
from tests.support import Event, add_events, contact, day, organization, reference_rollups, request, stored_rollups, utc

ACME, GLOBEX = organization(1), organization(2)
NOON = utc("2026-10-05T12:00")
HOUR = timedelta(hours=1)


def _opened(person: int, at: str, owner: int = 1) -> Event:
    return Event(organization(owner), contact(person), "email_opened", utc(at))


def _hour(start: str) -> Window:
    return Window(utc(start), utc(start) + HOUR)


def test_counts_events_and_distinct_contacts_of_the_whole_day(settings: Settings, session: Session) -> None:
    events = [
        _opened(1, "2026-10-05T00:00"),
        _opened(1, "2026-10-05T11:30"),
        _opened(2, "2026-10-05T23:59:59.999999"),
        _opened(3, "2026-10-05T11:45", owner=2),
    ]
    add_events(session, events)
    report = run(request(settings, _hour("2026-10-05T11:00")))
    assert report.exit_code == ExitCode.DONE
    assert stored_rollups(session) == {
        (ACME, date(2026, 10, 5), "email_opened"): (3, 2),
        (GLOBEX, date(2026, 10, 5), "email_opened"): (1, 1),
    }
    assert report.counters == {
        "days": 1, "events": 4, "inserted": 2, "updated": 0, "removed": 0, "unchanged": 0, "withheld": 0
    }  # fmt: skip


def test_midnight_belongs_to_the_day_that_begins(settings: Settings, session: Session) -> None:
    add_events(session, [_opened(1, "2026-10-04T23:59:59.999999"), _opened(1, "2026-10-05T00:00")])
    run(request(settings, day("2026-10-05")))
    assert stored_rollups(session) == {
        (ACME, date(2026, 10, 4), "email_opened"): (1, 1),
        (ACME, date(2026, 10, 5), "email_opened"): (1, 1),
    }


@pytest.mark.parametrize(
    ("start", "days"),
    [
        ("2026-10-05T00:00", ["2026-10-04", "2026-10-05"]),
        ("2026-10-05T01:59:59.999999", ["2026-10-04", "2026-10-05"]),
        ("2026-10-05T02:00", ["2026-10-05"]),
        ("2024-03-01T00:30", ["2024-02-29", "2024-03-01"]),
        ("2026-01-01T00:30", ["2025-12-31", "2026-01-01"]),
    ],
)
def test_yesterday_is_covered_when_the_window_starts_within_the_grace(start: str, days: list[str]) -> None:
    covered = JOBS["aggregate-hourly"].coverage(
        Window(utc(start), utc(start) + timedelta(minutes=1)), JOBS["aggregate-hourly"].options(), Settings()
    )
    assert [str(part.start.date()) for part in covered.split(JOBS["aggregate-hourly"].bucket)] == days


def test_options_are_read_back_from_the_ledger_as_they_were() -> None:
    options = JOBS["aggregate-hourly"].options.model_validate({"grace": "90m", "allow_shrink": True})
    recorded = options.model_dump(mode="json", exclude_defaults=True)
    assert type(options).from_ledger(json.loads(json.dumps(recorded))) == options


def test_no_grace_leaves_yesterday_alone(settings: Settings, session: Session) -> None:
    add_events(session, [_opened(1, "2026-10-04T23:00"), _opened(1, "2026-10-05T00:10")])
    run(request(settings, day("2026-10-05"), options={"grace": "0s"}))
    assert [key[1] for key in stored_rollups(session)] == [date(2026, 10, 5)]


def test_an_event_committed_late_is_counted_on_its_own_day(settings: Settings, session: Session) -> None:
    events = [_opened(1, "2026-10-04T23:30")]
    add_events(session, events)
    run(request(settings, _hour("2026-10-04T23:00")))
    late = [_opened(2, "2026-10-04T23:59:59.9")]
    add_events(session, late)
    run(request(settings, _hour("2026-10-05T00:00")))
    assert stored_rollups(session) == reference_rollups(events + late)


def test_a_second_run_changes_no_row(settings: Settings, session: Session) -> None:
    add_events(session, [_opened(1, "2026-10-05T10:00"), _opened(2, "2026-10-05T10:00")])
    run(request(settings, day("2026-10-05")))
    versions = session.rows(b"SELECT xmin, ctid, * FROM analytics.event_aggregates")
    report = run(request(settings, day("2026-10-05")))
    assert report.counters["unchanged"] == 1
    assert session.rows(b"SELECT xmin, ctid, * FROM analytics.event_aggregates") == versions


def test_a_value_that_the_old_job_counted_too_low_is_replaced(settings: Settings, session: Session) -> None:
    add_events(session, [_opened(1, "2026-10-05T10:00"), _opened(2, "2026-10-05T10:00")])
    session.execute(
        b"INSERT INTO analytics.event_aggregates (organization_id, date, event_type, count, unique_count)"
        b" VALUES (%(org)s, '2026-10-05', 'email_opened', 1, 1)",
        {"org": ACME},
    )
    assert run(request(settings, day("2026-10-05"))).counters["updated"] == 1
    assert stored_rollups(session) == {(ACME, date(2026, 10, 5), "email_opened"): (2, 2)}


@pytest.mark.parametrize(
    "statement", [b"DELETE FROM analytics.contact_activity", b"TRUNCATE analytics.contact_activity"]
)
def test_a_group_whose_events_are_gone_is_refused_and_kept(
    settings: Settings, session: Session, statement: bytes
) -> None:
    events = [_opened(1, "2026-10-05T10:00")]
    add_events(session, events)
    run(request(settings, day("2026-10-05")))
    session.execute(statement)
    report = run(request(settings, day("2026-10-05")))
    assert (report.status, report.exit_code) == (Status.FAILED, ExitCode.REFUSED)
    assert isinstance(report.error, RefusedError)
    assert [(row["organization_id"], row["old_total"], row["new_total"]) for row in report.error.rows] == [(ACME, 1, 0)]
    assert stored_rollups(session) == reference_rollups(events)


@pytest.mark.parametrize(("count", "unique_count"), [(3, 2), (2, 3)])
def test_a_lower_count_or_unique_count_is_refused_until_shrinking_is_allowed(
    settings: Settings, session: Session, count: int, unique_count: int
) -> None:
    events = [_opened(1, "2026-10-05T10:00"), _opened(2, "2026-10-05T10:00")]
    add_events(session, events)
    session.execute(
        b"INSERT INTO analytics.event_aggregates (organization_id, date, event_type, count, unique_count)"
        b" VALUES (%(org)s, '2026-10-05', 'email_opened', %(count)s, %(unique)s)",
        {"org": ACME, "count": count, "unique": unique_count},
    )
    assert run(request(settings, day("2026-10-05"))).exit_code == ExitCode.REFUSED
    assert stored_rollups(session) == {(ACME, date(2026, 10, 5), "email_opened"): (count, unique_count)}
    assert run(request(settings, day("2026-10-05"), options={"allow_shrink": True})).exit_code == ExitCode.DONE
    assert stored_rollups(session) == reference_rollups(events)


def test_a_withheld_day_does_not_keep_the_other_day_of_the_run_from_being_written(
    settings: Settings, session: Session
) -> None:
    session.execute(
        b"INSERT INTO analytics.event_aggregates (organization_id, date, event_type, count, unique_count)"
        b" VALUES (%(org)s, '2026-10-05', 'email_opened', 9, 9)",
        {"org": ACME},
    )
    add_events(session, [_opened(1, "2026-10-04T10:00"), _opened(1, "2026-10-05T10:00")])
    assert run(request(settings, day("2026-10-05"))).exit_code == ExitCode.PARTIAL
    assert stored_rollups(session) == {
        (ACME, date(2026, 10, 4), "email_opened"): (1, 1),
        (ACME, date(2026, 10, 5), "email_opened"): (9, 9),
    }


def test_shrinking_removes_what_has_no_events(settings: Settings, session: Session) -> None:
    session.execute(
        b"INSERT INTO analytics.event_aggregates (organization_id, date, event_type, count, unique_count)"
        b" VALUES (%(org)s, '2026-10-05', 'email_opened', 9, 9)",
        {"org": ACME},
    )
    report = run(request(settings, day("2026-10-05"), options={"allow_shrink": True}))
    assert report.counters["removed"] == 1
    assert stored_rollups(session) == {}


def test_monthly_rows_and_rows_of_other_channels_are_untouched(settings: Settings, session: Session) -> None:
    session.execute(
        b"INSERT INTO analytics.event_aggregates (organization_id, date, event_type, channel, count, unique_count)"
        b" VALUES (%(org)s, '2026-10-05', 'monthly:email_opened', 'monthly_summary', 7, 7),"
        b"        (%(org)s, '2026-10-05', 'monthly:email_sent', NULL, 8, 8),"
        b"        (%(org)s, '2026-10-05', 'email_opened', 'email', 9, 9)",
        {"org": ACME},
    )
    before = session.rows(b"SELECT * FROM analytics.event_aggregates ORDER BY id")
    run(request(settings, day("2026-10-05"), options={"allow_shrink": True}))
    assert session.rows(b"SELECT * FROM analytics.event_aggregates ORDER BY id") == before


def test_an_organization_limits_what_is_read_and_written(settings: Settings, session: Session) -> None:
    events = [_opened(1, "2026-10-05T10:00"), _opened(2, "2026-10-05T10:00", owner=2)]
    add_events(session, events)
    run(request(settings, day("2026-10-05"), options={"org": [str(GLOBEX)]}))
    assert stored_rollups(session) == reference_rollups(events[1:])


def test_an_unknown_organization_is_an_error_of_usage(settings: Settings) -> None:
    report = run(request(settings, day("2026-10-05"), options={"org": [str(organization(99))]}))
    assert isinstance(report.error, UsageError)
    assert str(organization(99)) in str(report.error)


def test_an_organization_that_was_idle_in_the_window_is_known(settings: Settings, session: Session) -> None:
    add_events(session, [_opened(1, "2026-09-01T10:00")])
    assert run(request(settings, day("2026-10-05"), options={"org": [str(ACME)]})).exit_code == ExitCode.DONE


def test_a_dry_run_writes_nothing_and_counts_what_it_would_do(settings: Settings, session: Session) -> None:
    add_events(session, [_opened(1, "2026-10-05T10:00")])
    report = run(request(settings, day("2026-10-05"), dry_run=True))
    assert (report.status, report.counters["inserted"]) == (Status.DRY_RUN, 1)
    assert stored_rollups(session) == {}
    assert session.row(b"SELECT count(*) AS runs FROM mauntic_jobs.runs") == {"runs": 0}


def test_comparing_shows_old_and_new_values_of_what_changes(settings: Settings, session: Session) -> None:
    add_events(session, [_opened(1, "2026-10-05T10:00"), _opened(2, "2026-10-05T10:00")])
    run(request(settings, day("2026-10-05")))
    add_events(session, [_opened(2, "2026-10-05T11:00"), _opened(3, "2026-10-05T11:00", owner=2)])
    report = run(request(settings, day("2026-10-05"), options={"compare": True}))
    assert [
        (row["organization_id"], row["old_count"], row["new_count"], row["old_unique_count"], row["new_unique_count"])
        for row in report.changes
    ] == [(ACME, 2, 3, 2, 2), (GLOBEX, None, 1, None, 1)]
