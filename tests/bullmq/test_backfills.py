"""Windows of a backfill on the job's queue: run by `work` processes, behind the slots."""

import signal
import subprocess
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from mauntic_jobs.backfill.store import BackfillState, WindowState
from mauntic_jobs.bullmq import Queue
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.bullmq.enqueue import QueueJob, add_jobs
from mauntic_jobs.stores.postgres.session import connect
from tests.backfill.fleet import JOB, activity, backfill, state, states, successes
from tests.bullmq.queues import ask, fields_of, ids_in, now_ms
from tests.gate import Gate
from tests.support import (
    Event,
    add_events,
    contact,
    day,
    organization,
    reference_rollups,
    run_program,
    start_program,
    stored_rollups,
    utc,
    wait_until,
)

_FIRST = utc("2026-10-05T00:00")
_EVENTS = activity(_FIRST, 4)
_RANGE = (JOB, "--window", "2026-10-05/2026-10-09")
_RUN = ("run", *_RANGE, "--enqueue")


@pytest.fixture
def here(direct_settings: Settings, queue: Queue) -> Settings:
    own = {"redis_url": queue.redis_url, "queue_prefix": queue.prefix}
    with connect(direct_settings) as session:
        add_events(session, _EVENTS)
    return Settings(**{**direct_settings.model_dump(), **own})


@pytest.fixture
def variables(queue: Queue) -> dict[str, str]:
    return {"REDIS_URL": queue.redis_url, "MAUNTIC_QUEUE_PREFIX": queue.prefix, "MAUNTIC_TAKEOVER_AFTER": "1s"}


def _start_work(here: Settings, queue: Queue, variables: dict[str, str]) -> subprocess.Popen[str]:
    return start_program("work", queue.name, "--drain", "--drain-timeout", "0s", settings=here, **variables)


def _work(here: Settings, queue: Queue, variables: dict[str, str]) -> None:
    worker = _start_work(here, queue, variables)
    _, errors = worker.communicate()
    assert worker.returncode == ExitCode.DONE, errors


def test_workers_share_the_windows_behind_a_slot(here: Settings, queue: Queue, variables: dict[str, str]) -> None:
    put = backfill(*_RUN, "--newest-first", "--parallel", "2", settings=here, **variables)
    assert put.returncode == ExitCode.DONE, put.stderr
    assert "4 windows on the queue analytics:aggregate-hourly. To see how far it is: mauntic-jobs backfill show 1" in (
        put.stderr
    )
    with closing(queue.connect()) as redis:
        add_jobs(redis, queue.prefix, [QueueJob(queue.name, "slot", JOB, {})], now_ms())
    workers = [_start_work(here, queue, variables) for _ in range(2)]
    outputs = [worker.communicate() for worker in workers]
    assert [worker.returncode for worker in workers] == [ExitCode.DONE] * 2, outputs
    with connect(here) as session:
        assert states(session) == [WindowState.DONE] * 4
        assert state(session) is BackfillState.ENDED
        assert set(successes(session).values()) == {1}
        assert stored_rollups(session) == reference_rollups(_EVENTS)
        runs = session.rows(b"SELECT slot, window_start FROM mauntic_jobs.runs ORDER BY id")
    # The slot was put on the queue last, and taken among the first.
    assert any(row["slot"] for row in runs[:2])
    begun = [row["window_start"] for row in runs if row["slot"] is None]
    assert begun[0] in {_FIRST + timedelta(days=3), _FIRST + timedelta(days=2)}
    assert len(ids_in(queue, "completed")) == 5
    assert ids_in(queue, "failed") == []


@pytest.mark.parametrize("parallel", [1, 2])
def test_no_more_windows_are_run_at_a_time_than_asked_for(
    here: Settings, queue: Queue, variables: dict[str, str], parallel: int
) -> None:
    with connect(here) as keeper:
        gate = Gate(keeper, "analytics.event_aggregates")
        gate.close_at(1)
        backfill(*_RUN, "--parallel", str(parallel), settings=here, **variables)
        workers = [_start_work(here, queue, variables) for _ in range(3)]
        wait_until(lambda: len(ids_in(queue, "active")) == 3, "a job in each worker's hand")
        wait_until(lambda: states(keeper).count(WindowState.RUNNING) == parallel, "the windows")
        # The others ask again each half second.
        time.sleep(1.5)
        assert states(keeper).count(WindowState.RUNNING) == parallel
        gate.open()
        outputs = [worker.communicate() for worker in workers]
        assert [worker.returncode for worker in workers] == [ExitCode.DONE] * 3, outputs
        assert states(keeper) == [WindowState.DONE] * 4
        assert state(keeper) is BackfillState.ENDED
        assert stored_rollups(keeper) == reference_rollups(_EVENTS)
        beside = keeper.rows(
            b"SELECT run.id, (SELECT count(*) FROM mauntic_jobs.runs AS other WHERE other.backfill_id = run.backfill_id"
            b" AND other.started_at <= run.started_at AND other.finished_at > run.started_at) AS runs"
            b" FROM mauntic_jobs.runs AS run WHERE run.backfill_id IS NOT NULL"
        )
        assert max(row["runs"] for row in beside) == parallel


def test_windows_that_wait_for_others_do_not_run_once_the_backfill_is_canceled(
    here: Settings, queue: Queue, variables: dict[str, str]
) -> None:
    with connect(here) as keeper:
        gate = Gate(keeper, "analytics.event_aggregates")
        gate.close_at(1)
        backfill(*_RUN, settings=here, **variables)
        workers = [_start_work(here, queue, variables) for _ in range(2)]
        wait_until(lambda: len(ids_in(queue, "active")) == 2, "a job in each worker's hand")
        gate.wait_for_writer(workers[0])
        backfill("cancel", "1", settings=here)
        gate.open()
        outputs = [worker.communicate() for worker in workers]
        assert [worker.returncode for worker in workers] == [ExitCode.DONE] * 2, outputs
        assert sorted(states(keeper)) == [WindowState.CANCELED] * 3 + [WindowState.DONE]


def test_a_plan_is_applied_by_workers_and_stops_where_it_is_outdated(
    here: Settings, queue: Queue, variables: dict[str, str], tmp_path: Path
) -> None:
    plan = str(tmp_path / "plan.json")
    backfill("plan", *_RANGE, "--parallel", "2", "--out", plan, settings=here)
    lost = backfill("apply", plan, "--enqueue", settings=here, REDIS_URL="redis://127.0.0.1:1/0")
    assert lost.returncode == ExitCode.UNAVAILABLE
    with connect(here) as session:
        assert session.rows(b"SELECT FROM mauntic_jobs.backfills") == []
        put = backfill("apply", plan, "--enqueue", settings=here, **variables)
        assert (put.returncode, "4 windows on the queue" in put.stderr) == (ExitCode.DONE, True)
        late = Event(organization(1), contact(1), "email_sent", utc("2026-10-07T23:00"))
        add_events(session, [late])
        _work(here, queue, variables)
        assert states(session) == [WindowState.DONE, WindowState.DONE, WindowState.FAILED, WindowState.WAITING]
        assert state(session) is BackfillState.PAUSED
        assert ids_in(queue, "failed") == []
        stale = day("2026-10-07")
        before = [event for event in _EVENTS if event.at < stale.start]
        assert stored_rollups(session) == reference_rollups(before)
        backfill("cancel", "1", settings=here)
        backfill("plan", *_RANGE, "--out", plan, settings=here)
        backfill("apply", plan, "--enqueue", settings=here, **variables)
        _work(here, queue, variables)
        assert state(session, 2) is BackfillState.ENDED
        assert stored_rollups(session) == reference_rollups([*_EVENTS, late])


def test_a_paused_one_leaves_its_jobs_nothing_to_do_until_it_is_resumed(
    here: Settings, queue: Queue, variables: dict[str, str]
) -> None:
    backfill(*_RUN, settings=here, **variables)
    assert backfill("pause", "1", settings=here).returncode == ExitCode.DONE
    _work(here, queue, variables)
    with connect(here) as session:
        assert states(session) == [WindowState.WAITING] * 4
        again = backfill("resume", "1", "--enqueue", settings=here, **variables)
        assert (again.returncode, "4 windows on the queue" in again.stderr) == (ExitCode.DONE, True)
        _work(here, queue, variables)
        assert states(session) == [WindowState.DONE] * 4


def test_a_window_that_fails_is_the_backfills_and_not_the_queues(
    here: Settings, queue: Queue, variables: dict[str, str]
) -> None:
    with connect(here) as session:
        session.execute(
            b"ALTER TABLE analytics.event_aggregates ADD CONSTRAINT refused CHECK (date <> '2026-10-06') NOT VALID"
        )
        backfill(*_RUN, settings=here, **variables)
        _work(here, queue, variables)
        assert states(session).count(WindowState.FAILED) == 1
        assert ids_in(queue, "failed") == []
        (failed,) = [each for each in ids_in(queue, "completed") if "failed" in fields_of(queue, each)["returnvalue"]]
        assert failed.startswith("backfill-1-20261006T0000-")
        session.execute(b"ALTER TABLE analytics.event_aggregates DROP CONSTRAINT refused")
        backfill("resume", "1", "--failed-only", "--enqueue", settings=here, **variables)
        _work(here, queue, variables)
        assert states(session) == [WindowState.DONE] * 4
        assert state(session) is BackfillState.ENDED


def test_a_window_of_a_worker_that_died_is_run_by_the_next(
    here: Settings, queue: Queue, variables: dict[str, str]
) -> None:
    with connect(here) as keeper:
        gate = Gate(keeper, "analytics.event_aggregates")
        gate.close_at(1)
        backfill(*_RUN, settings=here, **variables)
        worker = _start_work(here, queue, variables)
        gate.wait_for_writer(worker)
        run = list_runs(keeper)[0]
        worker.send_signal(signal.SIGTERM)
        worker.communicate()
        gate.open()
        wait_until(lambda: ids_in(queue, "active") == [], "the job back on the queue")
        _work(here, queue, variables)
        assert states(keeper) == [WindowState.DONE] * 4
        assert [row["status"] for row in list_runs(keeper, limit=100) if row["id"] == run["id"]] == ["stopped"]
        assert stored_rollups(keeper) == reference_rollups(_EVENTS)


def test_without_redis_nothing_is_recorded(here: Settings) -> None:
    done = backfill(*_RUN, settings=here, REDIS_URL="redis://127.0.0.1:1/0")
    assert done.returncode == ExitCode.UNAVAILABLE
    with connect(here) as session:
        assert session.rows(b"SELECT FROM mauntic_jobs.backfills") == []


def test_a_job_that_names_no_window_fails_for_good(here: Settings, queue: Queue, variables: dict[str, str]) -> None:
    with closing(queue.connect()) as redis:
        window = {"windowStart": "2026-10-05", "windowEnd": "2026-10-06"}
        odd: list[dict[str, object]] = [{"backfill": 1}, {"backfill": "x", **window}, {"backfill": 9, **window}]
        jobs = [QueueJob(queue.name, f"odd-{number}", JOB, data) for number, data in enumerate(odd)]
        add_jobs(redis, queue.prefix, jobs, now_ms())
    _work(here, queue, variables)
    assert sorted(ids_in(queue, "failed")) == ["odd-0", "odd-1", "odd-2"]
    assert "its window of a backfill cannot be read" in fields_of(queue, "odd-0")["failedReason"]


def test_a_prioritized_job_is_as_bullmq_has_it(queue: Queue) -> None:
    with closing(queue.connect()) as redis:
        jobs = [QueueJob(queue.name, name, JOB, {}, priority) for name, priority in (("b", 10), ("a", 5), ("c", 0))]
        add_jobs(redis, queue.prefix, jobs, now_ms())
    assert (ids_in(queue, "wait"), ids_in(queue, "prioritized")) == (["c"], ["a", "b"])
    assert fields_of(queue, "a")["priority"] == "5"
    assert ask(queue, "EXISTS", f"{queue.key}:marker") == 1


def test_one_window_is_run_by_hand(here: Settings, variables: dict[str, str]) -> None:
    backfill(*_RUN, settings=here, **variables)
    for _ in range(2):
        done = run_program("backfill", "work", "1", "--window", "2026-10-06/2026-10-07", settings=here)
        assert done.returncode == ExitCode.DONE, done.stderr
    with connect(here) as session:
        assert states(session).count(WindowState.DONE) == 1
