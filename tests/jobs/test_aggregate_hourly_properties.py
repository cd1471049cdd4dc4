"""Whatever the order, repetition, overlap, lateness and kill of runs: the rows are those of one clean rebuild."""

from dataclasses import replace
from datetime import datetime, timedelta
from threading import Thread
from typing import Any

from hypothesis import HealthCheck, example, given, settings as hypothesis_settings, strategies as st

from mauntic_jobs.job import Context, JobResult, Overlap
from mauntic_jobs.runner.backfill import run_all, split
from mauntic_jobs.runner.request import Report, Request, Status
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import Unit, Window
from tests.pooler import RANDOM_RUNS
from tests.support import Event, add_events, contact, day, organization, reference_rollups, request, stored_rollups, utc

_HOUR = timedelta(hours=1)
# Midnights around which days, months, years and leap days change.
_MIDNIGHTS = [utc(text) for text in ("2024-02-29T00:00", "2024-03-01T00:00", "2026-01-01T00:00", "2026-10-05T00:00")]
_EDGES = [timedelta(), timedelta(microseconds=1), timedelta(microseconds=-1), timedelta(milliseconds=-100)]

_instants = st.builds(
    lambda midnight, offset: midnight + offset,
    st.sampled_from(_MIDNIGHTS),
    st.one_of(st.sampled_from(_EDGES), st.timedeltas(timedelta(hours=-30), timedelta(hours=30))),
)
_events = st.lists(
    st.builds(
        Event,
        st.integers(1, 3).map(organization),
        st.integers(1, 4).map(contact),
        st.sampled_from(["email_opened", "sms_sent", "page_viewed"]),
        _instants,
    ),
    max_size=40,
)
_windows = st.builds(
    lambda start, length: Window(start, start + length),
    _instants,
    st.timedeltas(timedelta(seconds=1), timedelta(days=3)),
)

_with_database = hypothesis_settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class _KilledError(Exception):
    """Stands for the end of the process: what is not committed by then is lost."""


def _killed_after_writing(asked: Request) -> Request:
    def work(context: Context[Any], window: Window) -> JobResult:
        asked.job.run(context, window)
        raise _KilledError

    return replace(asked, job=replace(asked.job, run=work))


def _reset(session: Session) -> None:
    session.execute(b"TRUNCATE analytics.contact_activity, analytics.event_aggregates, mauntic_jobs.runs")


def _run(asked: Request) -> list[Report]:
    return list(run_all(split(asked)))


def _days_of(events: list[Event]) -> list[Window]:
    starts = sorted({Unit.DAY.floor(event.at) for event in events})
    return [Window(start, start + timedelta(days=1)) for start in starts]


@RANDOM_RUNS
@_with_database
@given(events=_events, windows=st.lists(st.tuples(_windows, st.booleans()), max_size=5), order=st.randoms())
def test_any_order_repetition_and_kill_of_windows_ends_in_the_rows_of_one_rebuild(
    settings: Settings, session: Session, events: list[Event], windows: list[tuple[Window, bool]], order: Any
) -> None:
    _reset(session)
    add_events(session, events)
    # Every day is run whole at least once; the windows before, between and after it, and the kills, change nothing.
    steps = [(window, False) for window in _days_of(events)] + windows
    order.shuffle(steps)
    for window, killed in steps:
        asked = request(settings, window)
        if killed:
            before = stored_rollups(session)
            try:
                _run(replace(asked, job=_killed_after_writing(asked).job))
            except _KilledError:
                assert stored_rollups(session) == before
        else:
            assert {report.status for report in _run(asked)} == {Status.SUCCEEDED}
    assert stored_rollups(session) == reference_rollups(events)


@RANDOM_RUNS
@hypothesis_settings(_with_database, max_examples=5)  # each makes some eighty runs
@given(
    arrivals=st.lists(st.tuples(_instants, st.timedeltas(timedelta(), timedelta(hours=2))), max_size=25),
    missed=st.sets(st.integers(0, 60)),
)
@example(arrivals=[(utc("2026-10-04T23:59:59.999999"), timedelta(hours=2))], missed=set())
def test_hourly_runs_count_what_is_committed_up_to_two_hours_after_midnight(
    settings: Settings, session: Session, arrivals: list[tuple[datetime, timedelta]], missed: set[int]
) -> None:
    """Some runs may be missed, as long as one of each day's and one within the grace were made."""
    _reset(session)
    midnight = utc("2026-10-05T00:00")
    near = [
        (Event(organization(1), contact(number % 3), "email_opened", at), at + late)
        for number, (at, late) in enumerate(arrivals)
        if abs(at - midnight) <= timedelta(hours=30)
    ]
    first, last = midnight - timedelta(hours=31), midnight + timedelta(hours=50)
    slot = Unit.HOUR.floor(first)
    while slot <= last:
        add_events(session, [event for event, committed in near if slot - _HOUR < committed <= slot])
        number = (slot - first) // _HOUR
        if number not in missed or slot.hour in (0, 1, 2):
            assert run(request(settings, Window.before(slot, Unit.HOUR))).status is Status.SUCCEEDED
        slot += _HOUR
    assert stored_rollups(session) == reference_rollups([event for event, _ in near])


@RANDOM_RUNS
@hypothesis_settings(_with_database, max_examples=10)
@given(events=_events)
def test_runs_side_by_side_end_in_the_rows_of_one_rebuild(
    settings: Settings, session: Session, events: list[Event]
) -> None:
    _reset(session)
    add_events(session, events)
    reports: list[Report] = []
    window = day("2024-02-28", 3)

    def work() -> None:
        reports.extend(_run(replace(request(settings, window), overlap=Overlap.ALLOW)))

    threads = [Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {report.status for report in reports} == {Status.SUCCEEDED}
    covered = [event for event in events if utc("2024-02-27T00:00") <= event.at < window.end]
    assert stored_rollups(session) == reference_rollups(covered)
