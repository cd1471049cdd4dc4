from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from mauntic_jobs.errors import ExitCode, UsageError
from mauntic_jobs.jobs.stale_execution_cleanup import STALE_EXECUTION_CLEANUP
from mauntic_jobs.runner.request import Status
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from tests.jobs.executions import (
    ACTION,
    CUTOFF,
    DELAY,
    NOW,
    TICK,
    UNREADABLE,
    WEEK,
    Entry,
    Execution,
    canceled,
    clean,
    delay,
    everything,
    journey,
    old,
    request,
    store,
)
from tests.support import day, organization

_LENGTHS = [
    (14400, "minutes", timedelta(days=10)),
    (240, "hours", timedelta(days=10)),
    (7.25, "days", timedelta(days=7, hours=6)),
    (36500, "days", timedelta(days=36500)),
]


def test_idle_for_exactly_seven_days_is_not_yet_stale(settings: Settings, session: Session) -> None:
    begun = CUTOFF - WEEK
    executions = []
    for number, late in enumerate((-TICK, timedelta(), TICK)):
        at = CUTOFF + late
        executions += [
            Execution(10 * number, at),
            Execution(10 * number + 1, begun, entries=[Entry(ACTION, begun, begun), Entry(ACTION, at)]),
            Execution(10 * number + 2, begun, entries=[Entry(ACTION, begun, at), Entry(ACTION)]),
            Execution(10 * number + 3, begun, entries=[Entry(ACTION, None, at), Entry(ACTION, begun)]),
        ]
    store(session, executions)
    assert clean(settings).counters["canceled"] == 4
    assert canceled(session) == {0, 1, 2, 3}


@pytest.mark.parametrize(("late", "waits"), [(-TICK, False), (timedelta(), False), (TICK, True)])
def test_an_execution_waits_until_the_end_of_its_delay(
    settings: Settings, session: Session, late: timedelta, *, waits: bool
) -> None:
    delays: dict[UUID, str] = {}
    executions: list[Execution] = []
    for number, (duration, unit, length) in enumerate(_LENGTHS):
        step, first = UUID(int=100 + number), 10 * number
        delays[step] = delay(duration, unit)
        entered = NOW - length + late
        earlier = entered - timedelta(days=1)
        executions += [
            Execution(first, earlier, step, [Entry(step, earlier), Entry(step, entered), Entry(step)]),
            Execution(first + 1, earlier, step, [Entry(ACTION, earlier, entered), Entry(step)]),
            Execution(first + 2, entered, step),
            # Another step's start is not when the delay began.
            Execution(first + 3, earlier, step, [Entry(step, earlier), Entry(ACTION, entered)]),
        ]
    store(session, executions, delays)
    counters = clean(settings).counters
    everyone = {one.number for one in executions}
    assert canceled(session) == ({number for number in everyone if number % 10 == 3} if waits else everyone)
    assert (counters["waiting"], counters["malformed"]) == (3 * len(_LENGTHS) if waits else 0, 0)


def test_nothing_but_a_delay_is_waited_for(settings: Settings, session: Session) -> None:
    steps = [None, UUID(int=99), ACTION]
    store(session, [old(number, step=step) for number, step in enumerate(steps)], {DELAY: delay(365, "days")})
    assert clean(settings).counters["malformed"] == 0
    assert canceled(session) == {0, 1, 2}


def test_delays_that_cannot_be_read_are_not_waited_for_and_are_counted(settings: Settings, session: Session) -> None:
    delays = {UUID(int=10 + number): config for number, config in enumerate(UNREADABLE)}
    tiny, endless = UUID(int=8), UUID(int=9)
    readable = {tiny: '{"duration": 1e-400, "unit": "days"}', endless: '{"duration": 365, "unit": "days"}'}
    executions = [old(step.int, step=step) for step in [*delays, *readable]]
    store(session, executions, {**delays, **readable})
    counters = clean(settings).counters
    assert canceled(session) == {step.int for step in [*delays, tiny]}
    assert (counters["malformed"], counters["waiting"]) == (len(UNREADABLE), 1)
    told = session.rows(
        b"SELECT message FROM journey.execution_logs WHERE message LIKE '%duration of its current step%'"
    )
    assert len(told) == len(UNREADABLE)


def test_only_active_executions_are_canceled(settings: Settings, session: Session) -> None:
    statuses = ("completed", "failed", "canceled")
    store(session, [old(number, status=status) for number, status in enumerate(statuses)])
    before = everything(session)
    assert not any(clean(settings).counters.values())
    assert everything(session) == before


def test_every_execution_of_several_batches_is_canceled_and_logged_once(settings: Settings, session: Session) -> None:
    store(session, [*(old(number) for number in range(2500)), Execution(2500, NOW)])
    assert clean(settings).counters == {
        "stale": 2500, "waiting": 0, "malformed": 0, "canceled": 2500, "busy": 0, "left": 0
    }  # fmt: skip
    assert canceled(session) == set(range(2500))
    assert session.rows(b"SELECT DISTINCT message, metadata FROM journey.execution_logs") == [
        {
            "message": "Canceled: active without any step since 2026-10-02T03:00:00Z, more than 7d ago",
            "metadata": {
                "job": "stale-execution-cleanup",
                "idleSince": "2026-10-02T03:00:00Z",
                "olderThan": "7d",
                "malformedDelay": False,
            },
        }
    ]


def test_the_age_can_be_given(settings: Settings, session: Session) -> None:
    store(session, [Execution(1, NOW - timedelta(hours=36)), Execution(2, NOW - timedelta(hours=36) - TICK)])
    clean(settings, older_than="1d12h")
    assert canceled(session) == {2}


@pytest.mark.parametrize("bad", [{"older_than": "7m"}, {"older_than": "x"}, {"limit": 0}, {"org": ["acme"]}])
def test_options_that_cannot_be_meant_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        STALE_EXECUTION_CLEANUP.options.model_validate(bad)


def test_an_age_beyond_the_calendar_is_an_error_of_usage(settings: Settings) -> None:
    report = run(request(settings, older_than="999999d"))
    assert isinstance(report.error, UsageError)


def test_the_window_only_labels_the_run(settings: Settings, session: Session) -> None:
    store(session, [old(1), Execution(2, NOW - timedelta(days=6))])
    clean(settings, window=day("2026-01-01", 40))
    assert canceled(session) == {1}


def test_organizations_and_journeys_limit_what_is_canceled(settings: Settings, session: Session) -> None:
    store(session, [old(1), old(2, owner=2), old(3, owner=3)])
    assert clean(settings, org=[organization(1)], journey=[journey(1)], dry_run=True).counters["stale"] == 1
    clean(settings, org=[organization(2)])
    assert canceled(session) == {2}
    clean(settings, journey=[journey(2), journey(3)])
    assert canceled(session) == {2, 3}


@pytest.mark.parametrize(
    "options",
    [{"org": [organization(9)]}, {"journey": [journey(9)]}, {"org": [organization(1)], "journey": [journey(2)]}],
)
def test_unknown_organizations_and_journeys_are_errors_of_usage(
    settings: Settings, session: Session, options: dict[str, Any]
) -> None:
    store(session, [old(1), old(2, owner=2)])
    report = run(request(settings, **options))
    assert isinstance(report.error, UsageError)
    assert str([*options.values()][-1][0]) in str(report.error)
    assert canceled(session) == set()


def test_a_dry_run_counts_by_journey_and_writes_nothing(settings: Settings, session: Session) -> None:
    store(session, [old(1), old(2), old(3, owner=2), old(4, owner=2, step=DELAY)], {DELAY: delay(31, "days")})
    before = everything(session)
    report = clean(settings, dry_run=True)
    assert report.status is Status.DRY_RUN
    assert report.counters == {"stale": 3, "waiting": 1, "malformed": 0, "canceled": 3, "busy": 0, "left": 0}
    assert list(report.changes) == [
        {"journey_id": journey(1), "journey": "Journey 1", "executions": 2},
        {"journey_id": journey(2), "journey": "Journey 2", "executions": 1},
    ]
    assert sum(row["executions"] for row in clean(settings, dry_run=True, limit=2).changes) == 2
    assert everything(session) == before


def test_the_limit_takes_the_longest_running_and_leaves_the_rest_to_the_next_run(
    settings: Settings, session: Session
) -> None:
    store(session, [Execution(number, CUTOFF - timedelta(days=number)) for number in range(1, 6)])
    told: list[str] = []
    report = run(replace(request(settings, limit=2), log=told.append))
    assert (report.exit_code, report.partial) == (ExitCode.DONE, False)
    assert (report.counters["stale"], report.counters["canceled"], report.counters["left"]) == (5, 2, 3)
    assert told == ["3 stale executions are left to the next run: --limit is 2"]
    assert canceled(session) == {4, 5}
    clean(settings, limit=2)
    assert canceled(session) == {2, 3, 4, 5}
