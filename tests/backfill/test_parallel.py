"""Processes side by side, as forks and otherwise, and those that end early."""

import os
import sys
from functools import partial
from multiprocessing import active_children
from threading import Event, Thread

import pytest

from mauntic_jobs.backfill.parallel import Workers
from mauntic_jobs.backfill.plan import BackfillRequest, Reprocess, make_plan
from mauntic_jobs.backfill.store import WindowState, create
from mauntic_jobs.cli.backfill.worker import work_beside
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.window import Window
from tests.backfill.fleet import JOB, activity, states
from tests.support import add_events, reference_rollups, stored_rollups, utc

_DAYS = 6
_RANGE = Window(utc("2026-08-01T00:00"), utc("2026-08-07T00:00"))
_EVENTS = activity(_RANGE.start, _DAYS)


@pytest.fixture
def backfill(session: Session, settings: Settings) -> int:
    """Record a backfill of six windows, and return its number."""
    add_events(session, _EVENTS)
    request = BackfillRequest(
        job=JOBS[JOB],
        window=_RANGE,
        options=JOBS[JOB].options(),
        reprocess=[Reprocess.MISSING],
        newest_first=False,
        parallel=2,
        stop_after_failures=5,
    )
    return create(session, request, make_plan(session, request, settings, utc("2026-09-01T00:00"), lambda: None))


def test_processes_that_cannot_be_forks_run_all_windows(session: Session, settings: Settings, backfill: int) -> None:
    over = Event()
    thread = Thread(target=over.wait)
    thread.start()
    try:
        workers = Workers(backfill, 2, settings, partial(work_beside, failed_only=False))
    finally:
        over.set()
        thread.join()
    assert {type(each).__name__ for each in active_children()} == {"SpawnProcess"}
    assert len(list(workers.watch())) == _DAYS
    assert workers.code is ExitCode.DONE
    assert states(session) == [WindowState.DONE] * _DAYS
    assert stored_rollups(session) == reference_rollups(_EVENTS)


def _leave(_settings: Settings, _number: int, _parent: int, *, code: int) -> None:
    if code < 0:
        os.kill(os.getpid(), -code)
    sys.exit(code)


@pytest.mark.parametrize(
    ("code", "known"),
    [(ExitCode.UNAVAILABLE, ExitCode.UNAVAILABLE), (42, ExitCode.FAILED), (-9, ExitCode.FAILED)],
    ids=["known", "unknown", "killed"],
)
def test_a_process_that_ends_early_says_why(settings: Settings, backfill: int, code: int, known: ExitCode) -> None:
    workers = Workers(backfill, 1, settings, partial(_leave, code=code))
    assert list(workers.watch()) == []
    assert workers.code is known
