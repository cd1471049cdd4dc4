"""One organization's data withholds its own groups from a rollup, and never those of another organization."""

from datetime import date, timedelta
from typing import Any

from mauntic_jobs.errors import ExitCode, RefusedError
from mauntic_jobs.installation import Installation
from mauntic_jobs.job import Row
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.ops.monitor.check import check
from mauntic_jobs.runner.request import Launcher, Report, Status
from mauntic_jobs.runner.run import run
from mauntic_jobs.runner.slot_request import slot_request
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.settings.types import ScheduledShrink
from mauntic_jobs.stores.postgres.session import Session, connect
from tests.support import (
    Event,
    add_events,
    contact,
    day,
    organization,
    psql,
    reference_rollups,
    request,
    run_program,
    stored_rollups,
    utc,
)

HOUR = timedelta(hours=1)
DAY = "2026-10-05"
LEAVING = organization(7)


def _events(hour: int, owners: range = range(1, 21), each: int = 10, kind: str = "email_sent") -> list[Event]:
    at = utc(DAY) + timedelta(hours=hour, minutes=5)
    return [Event(organization(owner), contact(number), kind, at) for owner in owners for number in range(each)]


def _at(settings: Settings, hours: int, name: str = "aggregate-hourly") -> Report:
    """Run the slot that many hours after the day's midnight."""
    slot = utc(DAY) + timedelta(hours=hours)
    return run(slot_request(JOBS[name], slot, settings, Launcher.SCHEDULE, slot))


def _alerts(session: Session) -> list[Row]:
    return session.rows(
        b"SELECT fingerprint, severity, summary, action FROM mauntic_jobs.alerts WHERE closed_at IS NULL"
    )


def _erase(session: Session, owner: Any = LEAVING) -> None:
    session.execute(b"DELETE FROM analytics.contact_activity WHERE organization_id = %(o)s", {"o": owner})


def _record(session: Session, owner: int = 1, count: int = 9, kind: str = "email_opened") -> None:
    session.execute(
        b"INSERT INTO analytics.event_aggregates (organization_id, date, event_type, count, unique_count)"
        b" VALUES (%(org)s, '2026-10-05', %(kind)s, %(count)s, %(count)s)",
        {"org": organization(owner), "count": count, "kind": kind},
    )


def test_a_deleted_organization_costs_the_other_nineteen_no_event_and_its_alert_stays(
    settings: Settings, session: Session
) -> None:
    add_events(session, _events(8))
    assert _at(settings, 9).exit_code is ExitCode.DONE
    _erase(session)
    others = [event for event in _events(8) if event.organization != LEAVING]
    for hour in range(10, 27):
        if hour < 24:
            new = [event for event in _events(hour - 1) if event.organization != LEAVING]
            add_events(session, new)
            others += new
        assert _at(settings, hour).exit_code is ExitCode.PARTIAL
    recorded = {key: value for key, value in stored_rollups(session).items() if key[0] != LEAVING}
    assert recorded == reference_rollups(others)
    assert stored_rollups(session)[LEAVING, date(2026, 10, 5), "email_sent"] == (10, 10)
    # From 03:00 on no run looks at the day any more: all succeed, and the question stays open nevertheless.
    for hour in (27, 28, 60):
        assert _at(settings, hour).exit_code is ExitCode.DONE
    (alert,) = _alerts(session)
    assert (alert["fingerprint"], alert["severity"]) == ("groups withheld:aggregate-hourly", "error")
    assert "1 group of 1 organization (2026-10-05)" in alert["summary"]
    assert "10 events are recorded, 0 were found" in alert["summary"]
    found = check(Installation(settings, utc("2026-10-07T12:10"), list(JOBS.values()), session=session))
    assert "groups withheld" in {each.cause for each in found}
    done = run_program(*alert["action"].split()[1:], settings=settings)
    assert (done.returncode, str(LEAVING) in done.stdout, "shrinks" in done.stdout) == (ExitCode.PARTIAL, True, True)


def test_the_alert_ends_with_a_run_of_that_day_which_withholds_nothing(settings: Settings, session: Session) -> None:
    add_events(session, _events(8))
    _at(settings, 9)
    _erase(session)
    _at(settings, 10)
    now = utc(DAY) + 11 * HOUR
    allowed = {"allow_shrink": True}
    # What leaves the question open: another organization, a rehearsal, another day.
    run(request(settings, day(DAY), options={"org": [str(organization(1))], **allowed}, now=now))
    run(request(settings, day(DAY), options=allowed, dry_run=True, now=now))
    run(request(settings, day("2026-10-04"), options=allowed, now=now))
    assert len(_alerts(session)) == 1
    report = run(request(settings, day(DAY), options={"org": [str(LEAVING)], **allowed}, now=now + HOUR))
    assert (report.exit_code, report.counters["removed"], _alerts(session)) == (ExitCode.DONE, 1, [])


def test_the_alert_ends_when_the_events_are_back(settings: Settings, session: Session) -> None:
    add_events(session, _events(8))
    _at(settings, 9)
    _erase(session)
    _at(settings, 10)
    add_events(session, [event for event in _events(8) if event.organization == LEAVING])
    assert _at(settings, 11).exit_code is ExitCode.DONE
    assert _alerts(session) == []


def test_a_refused_slot_writes_nothing_and_its_alert_outlives_later_successes(
    settings: Settings, session: Session
) -> None:
    add_events(session, _events(8, range(7, 8)))
    _at(settings, 9)
    _erase(session)
    report = _at(settings, 10)
    assert (report.status, report.exit_code) == (Status.FAILED, ExitCode.REFUSED)
    assert isinstance(report.error, RefusedError)
    assert session.row(b"SELECT status FROM mauntic_jobs.runs ORDER BY id DESC LIMIT 1") == {"status": "failed"}
    assert stored_rollups(session) == reference_rollups(_events(8, range(7, 8)))
    assert _at(settings, 60).exit_code is ExitCode.DONE
    assert "groups withheld:aggregate-hourly" in {row["fingerprint"] for row in _alerts(session)}


def test_a_run_by_hand_raises_no_question(settings: Settings, session: Session) -> None:
    _record(session)
    add_events(session, _events(8))
    report = run(request(settings, day(DAY), now=utc("2026-10-06T12:00")))
    assert (report.exit_code, report.counters["withheld"], report.counters["inserted"]) == (ExitCode.PARTIAL, 1, 20)
    assert session.row(b"SELECT count(*) AS n FROM mauntic_jobs.withheld")["n"] == 0


def test_one_sentence_sums_up_what_many_organizations_lose(settings: Settings, session: Session) -> None:
    add_events(session, _events(8))
    for owner in range(1, 19):
        _record(session, owner, count=owner, kind="email_opened")
        _record(session, owner, count=2, kind="email_clicked")
    report = run(request(settings, day(DAY)))
    (problem,) = report.problems
    (row,) = report.summary
    assert (row["bucket"], row["groups"], row["organizations"], row["old_total"]) == (DAY, 36, 18, 207)
    assert f"36 groups of 2026-10-05 are withheld, because recorded values would fall, from {171 + 36} to 0" in problem
    assert problem.count("organization ") == 5
    assert f"organization {organization(18)} ('email_clicked', 'email_opened': 20 to 0)" in problem
    assert " and 13 more. " in problem


def test_a_group_that_outgrows_its_column_is_left_out_and_named(settings: Settings, session: Session) -> None:
    for table, columns in (
        ("event_aggregates", ("count", "unique_count")),
        ("campaign_daily_stats", ("sent", "opened")),
    ):
        alterations = ", ".join(f"ALTER {column} TYPE smallint" for column in columns)
        session.execute(f"ALTER TABLE analytics.{table} {alterations}".encode())
    campaign = organization(99)
    session.execute(
        b"INSERT INTO analytics.contact_activity (organization_id, contact_id, event_type, event_source, created_at)"
        b" SELECT %(large)s, %(contact)s, 'email_sent', %(campaign)s::text, timestamp '2026-10-05 08:00'"
        b" FROM generate_series(1, 40000)"
        b" UNION ALL SELECT %(small)s, %(contact)s, 'email_sent', %(campaign)s::text, '2026-10-05 08:00'",
        {"large": organization(1), "small": organization(2), "contact": contact(1), "campaign": campaign},
    )
    for name, window in (
        ("aggregate-hourly", day(DAY)),
        ("generate-daily-reports", day(DAY)),
        ("monthly-usage-summary", day("2026-10-01", 31)),
    ):
        report = run(request(settings, window, name))
        assert (report.exit_code, report.counters["withheld"], report.counters["inserted"]) == (ExitCode.PARTIAL, 1, 1)
        assert "larger than the column can hold (32,767)" in report.problems[0]
        assert str(organization(1)) in report.problems[0]
    assert list(stored_rollups(session)) == [(organization(2), date(2026, 10, 5), "email_sent")]


def test_one_long_event_type_leaves_fifty_organizations_their_monthly_usage(
    settings: Settings, session: Session
) -> None:
    add_events(session, _events(8, range(1, 51)))
    add_events(session, [Event(organization(51), contact(1), "x" * 93, utc(DAY))])
    report = _at(settings, 24 * 27 + 3, "monthly-usage-summary")
    assert (report.exit_code, report.counters["inserted"], report.counters["withheld"]) == (ExitCode.PARTIAL, 50, 1)
    (alert,) = _alerts(session)
    assert "event types are too long" in alert["summary"]
    assert alert["action"] == "mauntic-jobs monthly-usage-summary --month 2026-10 --dry-run --compare"


def test_an_organization_that_is_gone_may_shrink_by_schedule_where_the_setting_says_so(
    direct_settings: Settings,
) -> None:
    settings = Settings(**{**direct_settings.model_dump(), "scheduled_shrink": ScheduledShrink.GONE_ORGANIZATIONS})
    psql(
        direct_settings,
        f"INSERT INTO crm.contacts (organization_id) VALUES ('{organization(8)}');"
        f"INSERT INTO journey.journeys (organization_id, name) VALUES ('{organization(9)}', 'n');",
    )
    with connect(direct_settings) as session:
        add_events(session, _events(8, range(6, 11)))
        _at(settings, 9)
        for owner in (7, 8, 9):
            _erase(session, organization(owner))
        # One event is left of the tenth: it exists, although the platform has nothing else of it.
        session.execute(
            b"DELETE FROM analytics.contact_activity WHERE organization_id = %(o)s AND contact_id <> %(c)s",
            {"o": organization(10), "c": contact(1)},
        )
        report = _at(settings, 10)
        assert (report.exit_code, report.counters["removed"], report.counters["withheld"]) == (ExitCode.PARTIAL, 1, 3)
        assert {key[0] for key in stored_rollups(session)} == {organization(owner) for owner in (6, 8, 9, 10)}
