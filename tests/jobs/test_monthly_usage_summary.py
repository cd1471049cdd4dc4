from dataclasses import replace
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st

from mauntic_jobs.cli.job.window import WindowOptions, window_of
from mauntic_jobs.errors import ExitCode, RefusedError, UsageError
from mauntic_jobs.job import Context, JobResult
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.runner.backfill import run_all, split
from mauntic_jobs.runner.request import Report, Status
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping.window import Unit, Window
from tests.pooler import RANDOM_RUNS
from tests.support import (
    Event,
    Rollups,
    add_events,
    contact,
    day,
    organization,
    reference_rollups,
    request,
    run_program,
    stored_rollups,
    utc,
)

NAME = "monthly-usage-summary"
ACME, GLOBEX = organization(1), organization(2)
OCTOBER = Window(utc("2026-10-01"), utc("2026-11-01"))
MICROSECOND = timedelta(microseconds=1)
ROWS = b"SELECT xmin, ctid, * FROM analytics.event_aggregates ORDER BY id"


def _opened(person: int, at: str, owner: int = 1, kind: str = "email_opened") -> Event:
    return Event(organization(owner), contact(person), kind, utc(at))


def _reference(events: list[Event]) -> Rollups:
    """Count the months in Python, by another way than the product's."""
    found: dict[tuple[UUID, date, str], list[UUID]] = {}
    for event in events:
        key = event.organization, event.at.date().replace(day=1), f"monthly:{event.type}"
        found.setdefault(key, []).append(event.contact)
    return {key: (len(people), len(set(people))) for key, people in found.items()}


def _stored(session: Session) -> Rollups:
    rows = session.rows(b"SELECT * FROM analytics.event_aggregates WHERE channel = 'monthly_summary'")
    found = {
        (row["organization_id"], row["date"], row["event_type"]): (row["count"], row["unique_count"]) for row in rows
    }
    assert len(found) == len(rows)
    return found


def _record(
    session: Session,
    count: int,
    unique: int,
    *,
    kind: str = "monthly:email_opened",
    channel: str | None = "monthly_summary",
) -> None:
    session.copy(
        b"COPY analytics.event_aggregates (organization_id, date, event_type, channel, count, unique_count) FROM STDIN",
        [(ACME, OCTOBER.start.date(), kind, channel, count, unique)],
    )


def _run(settings: Settings, window: Window = OCTOBER, **options: Any) -> Report:
    return run(request(settings, window, NAME, options=options))


def test_counts_events_and_distinct_contacts_of_the_month_by_organization_and_type(
    settings: Settings, session: Session
) -> None:
    events = [_opened(number % 7, f"2026-10-{number:02}T12:00") for number in range(1, 32)]
    events += [_opened(1, "2026-10-05", owner=2), _opened(1, "2026-10-05", kind="page_viewed")]
    add_events(session, events)
    report = _run(settings, day("2026-10-17"))
    assert _stored(session) == _reference(events)
    assert _stored(session)[ACME, date(2026, 10, 1), "monthly:email_opened"] == (31, 7)
    assert report.counters == {
        "months": 1, "events": 33, "inserted": 3, "updated": 0, "removed": 0, "unchanged": 0,
        "withheld": 0,
    }  # fmt: skip


def test_how_far_it_is_is_told(settings: Settings, session: Session) -> None:
    add_events(session, [_opened(1, "2026-10-05"), _opened(1, "2026-11-05", kind="page_viewed")])
    told: list[str] = []
    session.execute(b"ANALYZE analytics.contact_activity")
    window = Window(OCTOBER.start, utc("2026-12-01"))
    for part in window.split(Unit.MONTH):
        run(request(settings, part, NAME, log=told.append))
    assert told == [f"{NAME}: counting {month} in a table of some 2 events" for month in ("2026-10", "2026-11")]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-10-01", "2026-11-01"),
        ("2024-02-01", "2024-03-01"),
        ("2026-02-01", "2026-03-01"),
        ("2026-12-01", "2027-01-01"),
    ],
)
def test_the_first_midnight_belongs_to_the_month_and_the_next_first_does_not(
    direct_settings: Settings, start: str, end: str
) -> None:
    month = Window(utc(start), utc(end))
    instants = [month.start - MICROSECOND, month.start, month.end - MICROSECOND, month.end]
    events = [Event(ACME, contact(number), "sms_sent", at) for number, at in enumerate(instants)]
    with connect(direct_settings) as session:
        add_events(session, events)
        _run(direct_settings, Window(month.end - MICROSECOND, month.end))
        assert _stored(session) == _reference(events[1:3])
        reports = list(run_all(split(request(direct_settings, Window(instants[0], month.end + MICROSECOND), NAME))))
        assert [report.counters["inserted"] + report.counters["unchanged"] for report in reports] == [1, 1, 1]
        assert _stored(session) == _reference(events)


@pytest.mark.parametrize(
    ("now", "month"),
    [
        ("2026-11-01T03:00", "2026-10-01/2026-11-01"),
        ("2026-11-01T02:59:59", "2026-09-01/2026-10-01"),
        ("2024-03-31T23:59", "2024-02-01/2024-03-01"),
        ("2026-01-01T03:00", "2025-12-01/2026-01-01"),
    ],
)
def test_the_slot_covers_the_month_before_it(now: str, month: str) -> None:
    assert str(window_of(JOBS[NAME], utc(now), WindowOptions())[0]) == month


@pytest.mark.parametrize(
    ("text", "month"), [("2024-02", "2024-02-01/2024-03-01"), (" 2025-12 ", "2025-12-01/2026-01-01")]
)
def test_a_month_can_be_named(text: str, month: str) -> None:
    assert str(window_of(JOBS[NAME], utc("2026-11-05"), WindowOptions(month=text))[0]) == month


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((text, "as a month") for text in ("2026-13", "2026-00", "2026-1", "202610", "2026-10-01", "", "0000-01")),
        ("2026-12", "in the future"),
        ("1969-12", "before 1970"),
        ("9999-12", "too late"),
    ],
)  # fmt: skip
def test_a_month_that_cannot_be_meant_is_an_error_of_usage(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        window_of(JOBS[NAME], utc("2026-11-05"), WindowOptions(month=text))


def test_only_a_job_of_months_offers_them(settings: Settings, session: Session) -> None:
    add_events(session, [_opened(1, "2025-10-05")])
    done = run_program(NAME, "--month", "2025-10", settings=settings)
    assert (done.returncode, "2025-10-01/2025-11-01 succeeded" in done.stdout) == (ExitCode.DONE, True)
    twice = run_program(NAME, "--month", "2025-10", "--date", "2025-10-05", settings=settings)
    assert (twice.returncode, "--month and --slot" in twice.stderr) == (ExitCode.USAGE, True)
    other = run_program("generate-daily-reports", "--month", "2025-10", settings=settings)
    assert (other.returncode, "No such option: --month" in other.stderr) == (ExitCode.USAGE, True)


def test_a_second_run_changes_no_row_and_later_events_only_their_own(settings: Settings, session: Session) -> None:
    events = [_opened(1, "2026-10-05"), _opened(1, "2026-10-06", kind="sms_sent")]
    add_events(session, events)
    _run(settings)
    versions = session.rows(ROWS)
    assert _run(settings).counters["unchanged"] == 2
    assert session.rows(ROWS) == versions
    late = _opened(2, "2026-10-31T23:59:59.999999")
    add_events(session, [late])
    assert _run(settings).counters["updated"] == 1
    assert _stored(session) == _reference([*events, late])
    assert sum(row in versions for row in session.rows(ROWS)) == 1


def test_the_daily_rollups_and_the_months_leave_each_other_alone(settings: Settings, session: Session) -> None:
    events = [_opened(1, "2026-10-01"), _opened(1, "2026-10-02"), _opened(2, "2026-10-02")]
    add_events(session, events)
    _record(session, 7, 7, kind="email_opened", channel="email")
    daily = split(request(settings, day("2026-10-01", 2), options={"grace": "0s"}))
    for requests in ([request(settings, OCTOBER, NAME)], daily, [request(settings, OCTOBER, NAME)], daily):
        assert {report.status for report in run_all(requests)} == {Status.SUCCEEDED}
    assert (stored_rollups(session), _stored(session)) == (reference_rollups(events), _reference(events))
    assert len(session.rows(ROWS)) == len(reference_rollups(events)) + len(_reference(events)) + 1


@pytest.mark.parametrize(("count", "unique"), [(3, 2), (2, 3)])
def test_a_lower_value_is_refused_until_shrinking_is_allowed(
    settings: Settings, session: Session, count: int, unique: int
) -> None:
    add_events(session, [_opened(1, "2026-10-05"), _opened(2, "2026-10-05")])
    _record(session, count, unique)
    before = session.rows(ROWS)
    report = _run(settings)
    assert (report.exit_code, session.rows(ROWS)) == (ExitCode.REFUSED, before)
    assert isinstance(report.error, RefusedError)
    assert "1 group of 2026-10 is withheld" in str(report.error)
    assert [(row["old_total"], row["new_total"]) for row in report.error.rows] == [(count, 2)]
    assert _run(settings, allow_shrink=True).counters["updated"] == 1
    assert list(_stored(session).values()) == [(2, 2)]


def test_a_month_without_events_is_refused_until_shrinking_is_allowed(settings: Settings, session: Session) -> None:
    _record(session, 2, 2)
    _record(session, 5, 5, kind="monthly:email_opened", channel=None)
    _record(session, 5, 5, kind="email_opened")
    assert (_run(settings).exit_code, len(session.rows(ROWS))) == (ExitCode.REFUSED, 3)
    assert _run(settings, allow_shrink=True).counters["removed"] == 1
    assert {(row["event_type"], row["channel"]) for row in session.rows(ROWS)} == {
        ("monthly:email_opened", None), ("email_opened", "monthly_summary")
    }  # fmt: skip


def test_a_type_that_fits_exactly_is_counted_and_longer_ones_are_withheld_by_name(
    settings: Settings, session: Session
) -> None:
    fitting = _opened(1, "2026-10-05", kind="é" * 92)
    add_events(session, [fitting])
    assert _run(settings).exit_code == ExitCode.DONE
    other = _opened(1, "2026-10-05")
    add_events(session, [other, _opened(1, "2026-10-06", owner=2, kind="b" * 93)])
    report = _run(settings)
    assert (report.exit_code, report.error, report.counters["withheld"]) == (ExitCode.PARTIAL, None, 1)
    (problem,) = report.problems
    assert "more than 100 characters" in problem
    assert f"organization {GLOBEX} ('monthly:{'b' * 93}': 0 to 1)" in problem
    add_events(session, [_opened(1, "2026-10-05", kind=f"{number:02}{'x' * 91}") for number in range(11)])
    (problem,) = _run(settings).problems
    assert [f"'monthly:{number:02}x" in problem for number in range(4)] == [True] * 3 + [False]
    assert "and 8 more" in problem
    assert _stored(session) == _reference([fitting, other])


def test_an_organization_limits_what_is_read_and_written(settings: Settings, session: Session) -> None:
    events = [_opened(1, "2026-10-05"), _opened(2, "2026-10-05", owner=2), _opened(2, "2026-10-05", kind="x" * 93)]
    add_events(session, events)
    _record(session, 9, 9)
    assert _run(settings, org=[str(GLOBEX)], allow_shrink=True).counters["inserted"] == 1
    assert _stored(session) == {**_reference(events[1:2]), (ACME, date(2026, 10, 1), "monthly:email_opened"): (9, 9)}
    error = _run(settings, org=[str(GLOBEX), str(organization(9))]).error
    assert isinstance(error, UsageError)
    assert f"No organization {organization(9)}:" in str(error)


def test_a_dry_run_writes_nothing_and_comparing_shows_what_changes(settings: Settings, session: Session) -> None:
    add_events(session, [_opened(1, "2026-10-05"), _opened(1, "2026-10-06"), _opened(1, "2026-10-06", owner=2)])
    _record(session, 1, 1)
    before = session.rows(ROWS)
    report = run(request(settings, OCTOBER, NAME, options={"compare": True}, dry_run=True))
    assert (report.status, session.rows(ROWS)) == (Status.DRY_RUN, before)
    assert [tuple(row.values())[1:] for row in report.changes] == [
        (ACME, "monthly:email_opened", 1, 2, 1, 1, None),
        (GLOBEX, "monthly:email_opened", None, 1, None, 1, None),
    ]


class _KilledError(Exception):
    """Stands for the end of the process: what is not committed by then is lost."""


def _killed_after_writing(context: Context[Any], window: Window) -> JobResult:
    JOBS[NAME].run(context, window)
    raise _KilledError


_instants = st.builds(
    lambda midnight, offset: midnight + offset,
    st.sampled_from([utc(text) for text in ("2024-02-01", "2024-03-01", "2025-12-15", "2026-01-01")]),
    st.sampled_from([timedelta(), -MICROSECOND]) | st.timedeltas(-timedelta(days=20), timedelta(days=20)),
)
_kinds = st.sampled_from(["email_opened", "sms_sent", "monthly:page_viewed"])
_events = st.lists(
    st.builds(Event, st.sampled_from([ACME, GLOBEX]), st.integers(1, 6).map(contact), _kinds, _instants), max_size=40
)
_windows = st.builds(
    lambda start, length: Window(start, start + length),
    _instants,
    st.timedeltas(timedelta(seconds=1), timedelta(days=40)),
)


@RANDOM_RUNS
@hypothesis_settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=_events, windows=st.lists(st.tuples(_windows, st.booleans()), max_size=3), order=st.randoms())
def test_any_order_repetition_and_kill_of_windows_ends_in_the_rows_of_one_rebuild(
    settings: Settings, session: Session, events: list[Event], windows: list[tuple[Window, bool]], order: Any
) -> None:
    session.execute(b"TRUNCATE analytics.contact_activity, analytics.event_aggregates, mauntic_jobs.runs")
    add_events(session, events)
    months = {Unit.MONTH.floor(event.at) for event in events}
    steps = [(Window(start, start + MICROSECOND), False) for start in sorted(months)] + windows
    order.shuffle(steps)
    for window, killed in steps:
        asked = request(settings, window, NAME)
        if killed:
            before = _stored(session)
            with pytest.raises(_KilledError):
                list(run_all(split(replace(asked, job=replace(asked.job, run=_killed_after_writing)))))
            assert _stored(session) == before
        else:
            assert {report.status for report in run_all(split(asked))} == {Status.SUCCEEDED}
    assert _stored(session) == _reference(events)
