from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from mauntic_jobs import __version__
from mauntic_jobs.errors import (
    ConfigurationError,
    ContentionError,
    ExitCode,
    FencedError,
    Interrupted,
    LockedError,
    MaunticJobsError,
    UnavailableError,
)
from mauntic_jobs.job import Context, JobResult, Overlap
from mauntic_jobs.runner import claim as claims
from mauntic_jobs.runner.history import list_runs, show_run
from mauntic_jobs.runner.request import Request, Status
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping.window import Window
from tests.support import day, request

DAY = day("2026-10-05")
WRITE = (
    b"INSERT INTO analytics.event_aggregates (organization_id, date, event_type)"
    b" VALUES (gen_random_uuid(), '2026-10-05', 'x')"
)
MARKS = b"SELECT count(*) AS marks FROM analytics.event_aggregates"

Body = Callable[[Context[Any], Window], JobResult]


def _job(settings: Settings, body: Body, **changes: Any) -> Request:
    """Return a request for a job that writes one row and then does `body`."""

    def work(context: Context[Any], window: Window) -> JobResult:
        context.transaction.execute(WRITE)
        return body(context, window)

    plain = request(settings, DAY, **changes)
    return replace(plain, job=replace(plain.job, run=work))


def _succeeds(_context: Context[Any], _window: Window) -> JobResult:
    return JobResult({"rows": 1})


def _failing(*errors: MaunticJobsError) -> Body:
    """Return a body that raises each of the errors in turn, and then succeeds."""
    left = list(errors)

    def body(context: Context[Any], window: Window) -> JobResult:
        if left:
            raise left.pop(0)
        return _succeeds(context, window)

    return body


def _marks(session: Session) -> int:
    return int(session.row(MARKS)["marks"])


def test_the_ledger_holds_everything_about_a_run(settings: Settings, session: Session) -> None:
    report = run(_job(settings, _succeeds, slot=DAY.end, host="worker-1", pid=4711, options={"grace": "1h"}))
    assert report.run_id is not None
    row = show_run(session, report.run_id)
    assert (row["job"], row["slot"], row["window_start"], row["window_end"]) == (
        "aggregate-hourly",
        DAY.end,
        DAY.start,
        DAY.end,
    )
    assert (row["launcher"], row["host"], row["pid"], row["version"], row["attempt"]) == (
        "cli",
        "worker-1",
        4711,
        __version__,
        1,
    )
    assert (row["status"], row["counters"], row["error"]) == ("succeeded", {"rows": 1}, None)
    assert row["options"] == {"grace": "PT1H"}
    assert row["started_at"] <= row["heartbeat_at"] <= row["finished_at"]


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_fault_that_can_pass_is_tried_again(settings: Settings, session: Session, failures: int) -> None:
    report = run(_job(settings, _failing(*[ContentionError("deadlock")] * failures)))
    assert (report.status, report.attempt) == (Status.SUCCEEDED, failures + 1)
    assert _marks(session) == 1
    assert [(row["status"], row["attempt"]) for row in list_runs(session)] == [("succeeded", failures + 1)]


def test_the_fourth_failure_in_a_row_is_final(settings: Settings, session: Session) -> None:
    report = run(_job(settings, _failing(*[ContentionError("deadlock")] * 4)))
    assert (report.status, report.attempt, report.exit_code) == (Status.FAILED, 4, ExitCode.FAILED)
    assert _marks(session) == 0
    (row,) = list_runs(session)
    assert (row["status"], row["attempt"], row["error"]) == ("failed", 4, "deadlock")


def test_retries_wait_one_two_and_four_seconds(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("mauntic_jobs.runner.retries.time.sleep", waits.append)
    run(_job(Settings(**{**settings.model_dump(), "retry_delay": "1s"}), _failing(*[ContentionError("deadlock")] * 4)))
    assert waits == [1, 2, 4]


def test_the_policy_is_configurable_by_job(settings: Settings) -> None:
    once = Settings(**{**settings.model_dump(), "jobs": {"aggregate-hourly": {"max_attempts": 1}}})
    assert run(_job(once, _failing(ContentionError("deadlock")))).attempt == 1


def test_a_permanent_fault_fails_at_once(settings: Settings, session: Session) -> None:
    report = run(_job(settings, _failing(ConfigurationError("no such table"))))
    assert (report.attempt, report.exit_code) == (1, ExitCode.CONFIGURATION)
    assert _marks(session) == 0


def test_a_lost_connection_is_opened_again(settings: Settings, session: Session) -> None:
    lost = iter([True, False])

    def body(context: Context[Any], window: Window) -> JobResult:
        if next(lost):
            backend = context.transaction.row(b"SELECT pg_backend_pid() AS pid")["pid"]
            session.row(b"SELECT pg_terminate_backend(%(pid)s)", {"pid": backend})
        context.transaction.row(b"SELECT 1 AS one")
        return _succeeds(context, window)

    report = run(_job(settings, body))
    assert (report.status, report.attempt, _marks(session)) == (Status.SUCCEEDED, 2, 1)


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "55P03", "53300"])
def test_faults_of_the_server_that_can_pass_are_tried_again(settings: Settings, sqlstate: str) -> None:
    failing = iter([True, False])

    def body(context: Context[Any], window: Window) -> JobResult:
        if next(failing):
            context.transaction.execute(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{sqlstate}'; END $$".encode())
        return _succeeds(context, window)

    assert run(_job(settings, body)).attempt == 2


def test_a_commit_whose_answer_was_lost_is_not_made_twice(
    settings: Settings, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    succeed, lost = claims.succeed, iter([True, False])

    def commit_then_lose(working: Session, *arguments: Any) -> None:
        succeed(working, *arguments)
        if next(lost):
            working.execute(b"COMMIT")
            raise UnavailableError("the connection was lost")

    monkeypatch.setattr("mauntic_jobs.runner.commit.succeed", commit_then_lose)
    report = run(_job(settings, _succeeds))
    assert (report.status, report.counters, _marks(session)) == (Status.SUCCEEDED, {"rows": 1}, 1)
    assert show_run(session, report.run_id or 0)["status"] == "succeeded"


def test_a_defect_is_recorded_and_raised(settings: Settings, session: Session) -> None:
    def body(_context: Context[Any], _window: Window) -> JobResult:
        raise ZeroDivisionError("by zero, for ann@example.com")

    with pytest.raises(ZeroDivisionError):
        run(_job(settings, body))
    (row,) = list_runs(session)
    assert (row["status"], row["error"]) == ("failed", "ZeroDivisionError: by zero, for <address>")
    assert _marks(session) == 0


def test_a_signal_rolls_back_and_is_recorded(settings: Settings, session: Session) -> None:
    def body(_context: Context[Any], _window: Window) -> JobResult:
        raise Interrupted(15)

    with pytest.raises(Interrupted):
        run(_job(settings, body))
    (row,) = list_runs(session)
    assert (row["status"], row["error"]) == ("stopped", "stopped by signal 15")
    assert _marks(session) == 0


def test_an_unreachable_database_is_tried_four_times(settings: Settings) -> None:
    assert settings.database_url
    nowhere = Settings(**{**settings.model_dump(), "database_url": "postgresql://127.0.0.1:1/x"})
    told: list[str] = []
    report = run(_job(nowhere, _succeeds, log=told.append))
    assert (report.attempt, report.exit_code, report.run_id) == (4, ExitCode.UNAVAILABLE, None)
    assert len(told) == 3


class _Nested:
    """A request that is made while a run of the same job is under way."""

    def __init__(self, **changes: Any) -> None:
        self._changes = changes
        self.report: Any = None

    def __call__(self, context: Context[Any], window: Window) -> JobResult:
        self.report = run(_job(context.settings, _succeeds, **self._changes))
        return _succeeds(context, window)


def test_an_overlapping_run_is_skipped_and_recorded(settings: Settings, session: Session) -> None:
    nested = _Nested()
    outer = run(_job(settings, nested))
    assert (nested.report.status, nested.report.exit_code) == (Status.SKIPPED, ExitCode.TRY_LATER)
    assert f"run {outer.run_id}" in str(nested.report.error)
    assert [row["status"] for row in list_runs(session)] == ["skipped", "succeeded"]
    assert _marks(session) == 1


def test_an_overlapping_run_can_be_a_failure(settings: Settings) -> None:
    nested = _Nested(overlap=Overlap.FAIL)
    run(_job(settings, nested))
    assert (nested.report.status, nested.report.exit_code) == (Status.FAILED, ExitCode.FAILED)


def test_an_overlapping_run_can_wait(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    request_that_waits = _job(settings, _succeeds, overlap=Overlap.WAIT, log=told.append)
    with connect(settings) as owner:
        claim = claims.acquire(owner, _job(settings, _succeeds), 1)
        ends = partial(claims.fail, owner, claim, "done")
        monkeypatch.setattr("mauntic_jobs.runner.claim.time.sleep", lambda _: ends())
        assert run(request_that_waits).status is Status.SUCCEEDED
    assert [f"waiting for run {claim.id}" in line for line in told] == [True]


def test_runs_that_may_overlap_do(settings: Settings, session: Session) -> None:
    with connect(settings) as owner:
        claims.acquire(owner, _job(settings, _succeeds), 1)
        assert run(_job(settings, _succeeds, overlap=Overlap.ALLOW)).status is Status.SUCCEEDED
    assert _marks(session) == 1


def test_an_owner_that_fell_silent_is_replaced(settings: Settings, session: Session) -> None:
    with connect(settings) as dead:
        claim = claims.acquire(dead, _job(settings, _succeeds), 1)
        session.execute(b"UPDATE mauntic_jobs.runs SET heartbeat_at = heartbeat_at - interval '60.1 s'")
        assert run(_job(settings, _succeeds)).status is Status.SUCCEEDED
    assert [(row["id"], row["status"]) for row in list_runs(session)][1] == (claim.id, "lost")


def test_an_owner_that_was_heard_of_a_moment_ago_is_not_replaced(settings: Settings, session: Session) -> None:
    with connect(settings) as alive:
        claims.acquire(alive, _job(settings, _succeeds), 1)
        session.execute(b"UPDATE mauntic_jobs.runs SET heartbeat_at = heartbeat_at - interval '50 s'")
        assert run(_job(settings, _succeeds)).status is Status.SKIPPED


def test_an_owner_that_was_replaced_cannot_commit(settings: Settings, session: Session) -> None:
    def body(context: Context[Any], window: Window) -> JobResult:
        session.execute(b"UPDATE mauntic_jobs.runs SET heartbeat_at = heartbeat_at - interval '60.1 s'")
        claims._try(session, _job(settings, _succeeds), 1)  # as another process that does not end this transaction
        return _succeeds(context, window)

    report = run(_job(settings, body))
    assert report.status is Status.LOST
    assert isinstance(report.error, FencedError)
    assert _marks(session) == 0


def test_taking_over_ends_the_transaction_of_the_owner_that_fell_silent(settings: Settings, session: Session) -> None:
    def body(context: Context[Any], window: Window) -> JobResult:
        session.execute(b"UPDATE mauntic_jobs.runs SET heartbeat_at = heartbeat_at - interval '60.1 s'")
        assert run(_job(settings, _succeeds)).status is Status.SUCCEEDED  # would wait for this run's lock otherwise
        return _succeeds(context, window)

    report = run(_job(settings, body))
    assert (report.status, _marks(session)) == (Status.LOST, 1)


def test_a_long_run_shows_signs_of_life(settings: Settings, session: Session) -> None:
    quick = Settings(**{**settings.model_dump(), "takeover_after": timedelta(milliseconds=300)})

    def body(context: Context[Any], window: Window) -> JobResult:
        context.transaction.row(b"SELECT pg_sleep(1)")
        with pytest.raises(LockedError):
            claims.acquire(session, _job(quick, _succeeds), 1)
        return _succeeds(context, window)

    assert run(_job(quick, body)).status is Status.SUCCEEDED


def test_the_errors_of_the_ledger_hold_no_credentials(settings: Settings, session: Session) -> None:
    run(_job(settings, _failing(ConfigurationError("cannot use postgresql://app:hunter2@db.example.com/x"))))
    (row,) = list_runs(session)
    assert row["error"] == "cannot use postgresql://app:***@db.example.com/x"
