"""Jobs that count on a read replica: the same figures, and the primary's events are not read."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from mauntic_jobs.backfill.coverage import BucketState, judge
from mauntic_jobs.backfill.verify import Verification, verify
from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ExitCode, UnavailableError
from mauntic_jobs.jobs.aggregate_hourly import AggregateHourlyOptions
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.ops.doctor.check import Site
from mauntic_jobs.ops.doctor.checks import postgres
from mauntic_jobs.ops.doctor.finding import FindingSeverity
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import Window
from tests.jobs.random_events import DAY, WINDOWS, add_random_events, figures
from tests.standby import Standby, running_standby
from tests.support import Event, add_events, contact, organization, request, utc


@pytest.fixture(scope="module")
def standby(servers: Servers) -> Iterator[Standby]:
    with running_standby(servers) as running:
        yield running


def _scans(session: Session) -> int:
    """Return how often this server has read the table of events, in plans of any kind."""
    session.rows(b"SELECT pg_stat_force_next_flush()")
    row = session.row(
        b"SELECT coalesce(seq_scan, 0) + coalesce(idx_scan, 0) AS scans FROM pg_stat_user_tables"
        b" WHERE schemaname = 'analytics' AND relname = 'contact_activity'"
    )
    return int(row["scans"])


@pytest.mark.parametrize("many", [0, 10**9])
def test_a_run_counts_there_and_records_the_same(
    settings: Settings, session: Session, standby: Standby, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    monkeypatch.setattr("mauntic_jobs.jobs.event_counts.MANY_EVENTS", many)
    add_random_events(session, 2_000)
    for name, window in WINDOWS.items():
        run(request(settings, window, name))
    right = figures(session)
    session.execute(b"TRUNCATE analytics.event_aggregates, analytics.campaign_daily_stats, mauntic_jobs.rollup_days")
    reading, before = standby.beside(settings), _scans(session)
    reports = [run(request(reading, window, name)) for name, window in WINDOWS.items()]
    assert [report.exit_code for report in reports] == [ExitCode.DONE] * 3
    assert figures(session) == right
    assert _scans(session) == before


def test_the_look_for_late_events_reads_there(settings: Settings, session: Session, standby: Standby) -> None:
    add_random_events(session, 500)
    reading = standby.beside(settings)
    slot = DAY.end + timedelta(days=1, hours=2)
    for name in ("aggregate-hourly", "generate-daily-reports"):
        run(request(reading, DAY, name))
    late = Event(organization(1), contact(1), "email_sent", DAY.start + timedelta(hours=1))
    add_events(session, [late] * 7)
    before = _scans(session)
    next_day = Window(DAY.end, DAY.end + timedelta(days=1))
    report = run(request(reading, next_day, "generate-daily-reports", slot=slot, now=slot))
    assert report.counters["late_events"] == 7
    assert _scans(session) == before


def test_the_hours_of_another_writer_are_read_there(settings: Settings, session: Session, standby: Standby) -> None:
    nine, ten = DAY.start + timedelta(hours=9), DAY.start + timedelta(hours=10)
    add_events(session, [Event(organization(1), contact(1), "email_opened", nine - timedelta(hours=1))])
    reading = standby.beside(settings)
    run(request(reading, Window(nine - timedelta(hours=1), nine), now=nine))
    add_events(session, [Event(organization(1), contact(1), "email_opened", nine)] * 5)
    session.execute(b"UPDATE analytics.event_aggregates SET count = count + 5")
    before = _scans(session)
    report = run(request(reading, Window(nine, ten), now=ten))
    assert report.problems[0].startswith("another program has added the 5 events of 09:00-10:00")
    assert _scans(session) == before


def test_coverage_and_verify_read_there(direct_settings: Settings, standby: Standby) -> None:
    options: dict[str, Any] = {"job": JOBS["aggregate-hourly"], "options": AggregateHourlyOptions()}
    reading = standby.beside(direct_settings)
    with connect(reading) as session:
        add_random_events(session, 500)
        run(request(reading, DAY))
        before = _scans(session)
        (found,) = judge(session, options["job"], options["options"], reading, clock.now(), [DAY])
        assert found.state is BucketState.DONE
        session.execute(
            b"UPDATE analytics.event_aggregates SET count = count + 1 WHERE event_type = 'sms_sent'"
            b" AND organization_id = %(owner)s",
            {"owner": organization(1)},
        )
        (verified,) = verify(session, Verification(**options, settings=reading, limit=5, sample=None), [DAY])
        assert verified.figures
        assert verified.figures.differing == 1
        assert _scans(session) == before


def test_a_run_on_a_replica_that_lags_writes_nothing(
    direct_settings: Settings, standby: Standby, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = standby.beside(direct_settings).model_copy(update={"max_attempts": 1})
    with connect(direct_settings) as session:
        add_random_events(session, 100)
        standby.pause()
        add_events(session, [Event(organization(1), contact(1), "email_sent", utc("2026-10-05T12:00"))])
        with monkeypatch.context() as patch:
            patch.setattr("mauntic_jobs.stores.postgres.session._PATIENCE", timedelta(0))
            report = run(request(reading, DAY))
        assert isinstance(report.error, UnavailableError)
        assert figures(session) == {"event_aggregates": [], "campaign_daily_stats": []}
        standby.resume()
        assert run(request(reading, DAY)).counters["events"] == 101


def test_the_doctor_tells_of_the_replica(direct_settings: Settings, standby: Standby) -> None:
    site = Site(standby.beside(direct_settings), [], clock.now)
    check = next(check for check in postgres.CHECKS if check.name == "replica")
    with connect(site.settings) as session:
        site.session = session
        (cancels,) = check.look(site)
        assert cancels.severity is FindingSeverity.WARNING
        assert "may cancel a scan that takes longer than 0" in cancels.what
        standby.pause()
        session.execute(b"CREATE TABLE something ()")
        with pytest.raises(UnavailableError, match="after 3 s"):
            list(check.look(site))
        standby.resume()
