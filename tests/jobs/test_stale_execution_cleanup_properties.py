"""Beside executors, killed or repeated: what is canceled is what is stale, once."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st

from mauntic_jobs.errors import ContentionError
from mauntic_jobs.job import Context, JobResult, Row
from mauntic_jobs.jobs.stale_execution_cleanup import _sql
from mauntic_jobs.runner.request import Request
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import Window
from tests.jobs.executions import (
    ACTION,
    CUTOFF,
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
    old,
    record,
    request,
    store,
)
from tests.pooler import RANDOM_RUNS


class _Watched:
    """The transaction of a run in which an executor acts, just before the nth time that a statement is executed."""

    def __init__(self, transaction: Any, statement: str, turn: int, act: Callable[[], None]) -> None:
        self._transaction, self._statement, self._turn, self._act = transaction, _sql[statement], turn, act
        self.execute = transaction.execute

    def rows(self, query: bytes, parameters: Any = None) -> list[Row]:
        if query == self._statement:
            self._turn -= 1
            if self._turn == 0:
                self._act()
        rows: list[Row] = self._transaction.rows(query, parameters)
        return rows

    def row(self, query: bytes, parameters: Any = None) -> Row:
        (row,) = self.rows(query, parameters)
        return row


def _during(asked: Request, act: Callable[[], None], before: str, turn: int = 1) -> Request:
    def work(context: Context[Any], window: Window) -> JobResult:
        transaction: Any = _Watched(context.transaction, before, turn, act)
        return asked.job.run(replace(context, transaction=transaction), window)

    return replace(asked, job=replace(asked.job, run=work))


class _KilledError(Exception):
    """Stands for the end of the process: what is not committed by then is lost."""


def _kill(asked: Request) -> None:
    def work(context: Context[Any], window: Window) -> JobResult:
        asked.job.run(context, window)
        raise _KilledError

    with pytest.raises(_KilledError):
        run(replace(asked, job=replace(asked.job, run=work)))


def test_an_execution_that_an_executor_has_locked_is_left_to_the_next_run(settings: Settings, session: Session) -> None:
    store(session, [old(1), old(2), old(3)])
    with session.transaction():
        session.rows(b"SELECT FROM journey.journey_executions WHERE id = %(id)s FOR KEY SHARE", {"id": old(2).id})
        report = clean(settings)
        assert (report.counters["canceled"], report.counters["busy"]) == (2, 1)
        assert canceled(session) == {1, 3}
    assert clean(settings).counters["canceled"] == 1
    assert canceled(session) == {1, 2, 3}


def _move(session: Session, execution: Execution) -> None:
    with session.transaction():
        session.execute(b"SET LOCAL lock_timeout = '200ms'")
        touch = b"UPDATE journey.journey_executions SET current_step_id = %(step)s WHERE id = %(id)s"
        assert session.execute(touch, {"id": execution.id, "step": UUID(int=7)})


def test_executors_are_only_kept_from_what_is_canceled_already(settings: Settings, session: Session) -> None:
    store(session, [*(old(number) for number in range(1001)), Execution(2000, NOW), old(2001, status="failed")])
    moved: list[int] = []

    def act() -> None:
        # The rows are in the order of their ids: the first thousand are canceled by now, but not committed.
        for execution in (old(1000), Execution(2000, NOW), old(2001)):
            _move(session, execution)
            moved.append(execution.number)
        with pytest.raises(ContentionError):
            _move(session, old(999))

    report = run(_during(request(settings), act, "lock", turn=2))
    assert (report.counters["canceled"], report.counters["busy"]) == (1000, 1)
    assert moved == [1000, 2000, 2001]
    assert canceled(session) == set(range(1000))


_DONE = b"UPDATE journey.journey_executions SET status = 'completed' WHERE id = %(id)s"
_ALIVE = old(1)


@pytest.mark.parametrize(
    ("before", "act"),
    [
        ("lock", lambda executor: executor.execute(_DONE, {"id": _ALIVE.id})),
        ("lock", lambda executor: _move(executor, _ALIVE)),
        ("lock", lambda executor: record(executor, _ALIVE, Entry(ACTION, NOW))),
        ("cancel", lambda executor: record(executor, _ALIVE, Entry(ACTION, CUTOFF))),
        ("cancel", lambda executor: record(executor, _ALIVE, Entry(ACTION, CUTOFF - TICK, CUTOFF))),
    ],
    ids=["ended", "moved", "stepped before the lock", "stepped after it", "ended a step after it"],
)
def test_an_execution_that_comes_to_life_during_the_run_is_left_alone(
    settings: Settings, session: Session, before: str, act: Callable[[Session], Any]
) -> None:
    store(session, [_ALIVE, old(2)])
    report = run(_during(request(settings), lambda: act(session), before))
    assert (report.counters["canceled"], report.counters["busy"]) == (1, 1)
    assert canceled(session) == {2}


_DELAYS = {
    UUID(int=100 + number): config
    for number, config in enumerate(
        [
            *(delay(10, "days"), delay(180, "hours"), delay(20000, "minutes"), delay(7.5, "days"), delay(0, "days")),
            *UNREADABLE[::4],
        ]
    )
}
_LENGTHS = [timedelta(days=10), timedelta(hours=180), timedelta(minutes=20000), timedelta(days=7.5), WEEK, WEEK * 4]
_instants = st.builds(
    lambda length, offset: NOW - length + offset,
    st.sampled_from(_LENGTHS),
    st.one_of(st.sampled_from([timedelta(), TICK, -TICK]), st.timedeltas(-WEEK, WEEK)),
)
_steps = st.sampled_from([ACTION, *_DELAYS])
_entries = st.builds(Entry, _steps, st.none() | _instants, st.none() | _instants)
_UNITS = ("minutes", "hours", "days")
_statuses = st.sampled_from(["active"] * 5 + ["completed"])


@st.composite
def _executions(draw: st.DrawFn) -> list[Execution]:
    return [
        Execution(
            number,
            draw(_instants),
            draw(st.none() | _steps),
            draw(st.lists(_entries, max_size=4)),
            draw(_statuses),
            draw(st.integers(1, 2)),
        )
        for number in range(draw(st.integers(0, 25)))
    ]


def _length(step: UUID | None) -> timedelta | None:
    """Return how long the delay takes that `step` is; None if it is none, or one that cannot be read."""
    config = json.loads(_DELAYS[step]) if step in _DELAYS else None
    if not isinstance(config, dict) or type(config.get("duration")) not in (int, float) or config["duration"] < 0:
        return None
    return timedelta(**{config["unit"]: config["duration"]}) if config.get("unit") in _UNITS else None


def _is_stale(one: Execution) -> bool:
    """Judge an execution in Python, by another way than the product's."""
    activity = [at for entry in one.entries for at in (entry.started, entry.completed) if at]
    if one.status != "active" or one.started >= CUTOFF or any(at >= CUTOFF for at in activity):
        return False
    length = _length(one.step)
    entered = [entry.started for entry in one.entries if entry.step == one.step and entry.started]
    begun = max(entered) if entered else max([*activity, one.started])
    return length is None or begun + length <= NOW


@RANDOM_RUNS
@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(executions=_executions(), kills=st.integers(0, 2))
def test_what_is_canceled_is_what_is_stale_whatever_was_killed_or_repeated(
    settings: Settings, session: Session, executions: list[Execution], kills: int
) -> None:
    session.execute(
        b"TRUNCATE journey.journeys, journey.journey_steps, journey.journey_executions, journey.step_executions,"
        b" journey.execution_logs, mauntic_jobs.runs"
    )
    store(session, executions, _DELAYS)
    before = everything(session)
    for _ in range(kills):
        _kill(request(settings))
        assert everything(session) == before
    expected = {one.number for one in executions if _is_stale(one)}
    assert clean(settings).counters["canceled"] == len(expected)
    assert canceled(session) == expected
    after = everything(session)
    assert clean(settings).counters["stale"] == 0
    assert everything(session) == after
