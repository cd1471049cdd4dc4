"""`work` as a process: draining, dying, health."""

import json
import os
import signal
import subprocess
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from urllib.request import urlopen

import pytest

from mauntic_jobs.bullmq import Queue
from mauntic_jobs.embedded.die_with_parent import free_port
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.bullmq.consumer import QueueConsumer
from mauntic_jobs.stores.bullmq.enqueue import QueueJob, add_jobs
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.cron import latest_slot
from tests.bullmq.queues import ask, fields_of, ids_in, now_ms
from tests.support import Event, add_events, contact, organization, run_program, start_program, wait_until

_MINUTE = timedelta(minutes=1)


@pytest.fixture
def here(direct_settings: Settings, queue: Queue) -> Settings:
    own = {"redis_url": queue.redis_url, "queue_prefix": queue.prefix}
    return Settings(**{**direct_settings.model_dump(), **own})


def _variables(queue: Queue, **more: str) -> dict[str, str]:
    return {
        "REDIS_URL": queue.redis_url,
        "MAUNTIC_QUEUE_PREFIX": queue.prefix,
        "MAUNTIC_TAKEOVER_AFTER": "1s",
        **more,
    }


def _work(here: Settings, queue: Queue, *arguments: str, **more: str) -> subprocess.Popen[str]:
    return start_program("work", queue.name, *arguments, settings=here, **_variables(queue, **more))


def _wait_for_line(worker: subprocess.Popen[str], text: str) -> None:
    assert worker.stderr is not None
    lines = []
    for line in worker.stderr:
        lines.append(line)
        if text in line:
            return
    raise AssertionError(f"{text!r} is not in {lines}")


def _scheduled(queue: Queue) -> None:
    with closing(queue.connect()) as redis:
        add_jobs(redis, queue.prefix, [QueueJob(queue.name, "a", "aggregate-hourly", {})], now_ms())


_HOLD = b"BEGIN; LOCK TABLE analytics.event_aggregates IN ACCESS EXCLUSIVE MODE"


def _statuses(here: Settings) -> list[str]:
    with connect(here) as session:
        return [row["status"] for row in list_runs(session)]


def test_a_run_that_outlasts_the_drain_goes_back_to_the_queue(here: Settings, queue: Queue) -> None:
    _scheduled(queue)
    with connect(here) as holder:
        holder.execute_alone(_HOLD)
        worker = _work(here, queue, "--drain-timeout", "0.5s")
        wait_until(lambda: _statuses(here) == ["running"], "a run")
        worker.send_signal(signal.SIGTERM)
        _, errors = worker.communicate()
    assert worker.returncode == ExitCode.TRY_LATER, errors
    assert (ids_in(queue, "wait"), ids_in(queue, "active")) == (["a"], [])
    again = _work(here, queue, "--drain")
    again.communicate()
    assert (ids_in(queue, "completed"), _statuses(here)) == (["a"], ["succeeded", "stopped"])


def test_a_run_that_ends_within_the_drain_is_completed(here: Settings, queue: Queue) -> None:
    _scheduled(queue)
    with connect(here) as holder:
        holder.execute_alone(_HOLD)
        worker = _work(here, queue)
        wait_until(lambda: _statuses(here) == ["running"], "a run")
        worker.send_signal(signal.SIGINT)
        _wait_for_line(worker, "waiting for")
    worker.communicate()
    assert (worker.returncode, ids_in(queue, "completed"), _statuses(here)) == (ExitCode.DONE, ["a"], ["succeeded"])


def test_a_worker_killed_in_mid_run_loses_and_doubles_nothing(here: Settings, queue: Queue) -> None:
    _scheduled(queue)
    with connect(here) as holder:
        holder.execute_alone(_HOLD)
        worker = _work(here, queue)
        wait_until(lambda: _statuses(here) == ["running"], "a run")
        worker.kill()
    # What it had started goes on, and has answered the slot.
    wait_until(lambda: _statuses(here) == ["succeeded"], "the orphan's end")
    worker.communicate()
    ask(queue, "DEL", f"{queue.key}:a:lock")
    again = _work(here, queue)

    def completed() -> bool:
        ask(queue, "DEL", f"{queue.key}:stalled-check")
        with closing(queue.connect()) as redis:
            QueueConsumer(redis, queue.key).recover(now_ms())
        return ids_in(queue, "completed") == ["a"]

    wait_until(completed, "the job's completion")
    again.terminate()
    again.communicate()
    assert _statuses(here) == ["succeeded"]


def test_a_second_signal_ends_it_at_once(here: Settings, queue: Queue) -> None:
    _scheduled(queue)
    with connect(here) as holder:
        holder.execute_alone(_HOLD)
        worker = _work(here, queue, "--drain-timeout", "1h")
        wait_until(lambda: _statuses(here) == ["running"], "a run")
        worker.send_signal(signal.SIGTERM)
        _wait_for_line(worker, "waiting for")
        worker.send_signal(signal.SIGTERM)
        _, errors = worker.communicate()
        assert (worker.returncode, "stopped the run" in errors) == (ExitCode.TRY_LATER, True)
        assert _statuses(here) == ["stopped"]


@pytest.mark.usefixtures("started_processes")  # the run is its only child
def test_a_run_that_a_service_manager_stopped_goes_back_to_the_queue(here: Settings, queue: Queue) -> None:
    _scheduled(queue)
    with connect(here) as holder:
        holder.execute_alone(_HOLD)
        worker = _work(here, queue, "--drain")
        wait_until(lambda: _statuses(here) == ["running"], "a run")
        # Every thread of a process has children of its own.
        children = [file.read_text().split() for file in Path(f"/proc/{worker.pid}/task").glob("*/children")]
        ((run,),) = filter(None, children)
        os.kill(int(run), signal.SIGTERM)
        wait_until(lambda: _statuses(here) == ["running", "stopped"], "another run")
    _, errors = worker.communicate()
    assert worker.returncode == ExitCode.DONE, errors
    assert (ids_in(queue, "completed"), _statuses(here)) == (["a"], ["succeeded", "stopped"])
    assert fields_of(queue, "a")["atm"] == "1"


def test_its_health_is_served(here: Settings, queue: Queue) -> None:
    port = free_port()
    worker = _work(here, queue, PORT=str(port))

    def health() -> dict[str, object] | None:
        try:
            with urlopen(f"http://127.0.0.1:{port}/health") as answer:
                return dict(json.load(answer))
        except OSError:
            return None

    (looked,) = wait_until(health, "its health")["workers"]
    assert (looked["queue"], looked["job"], looked["trouble"], looked["alive"]) == (queue.name, None, None, True)
    worker.terminate()
    worker.communicate()
    assert worker.returncode == ExitCode.DONE


def test_without_a_database_it_does_not_begin_to_fail_jobs(queue: Queue) -> None:
    done = run_program("work", queue.name, "--drain", settings=None, **_variables(queue))
    assert (done.returncode, "Set DATABASE_URL" in done.stderr) == (ExitCode.CONFIGURATION, True)


def test_a_job_whose_slot_is_yet_to_come_is_put_off_and_claims_nothing(here: Settings, queue: Queue) -> None:
    _scheduled(queue)
    ask(queue, "HSET", f"{queue.key}:a", "timestamp", now_ms() + 7_200_000)
    worker = _work(here, queue, "--drain")
    worker.communicate()
    assert (ids_in(queue, "delayed"), _statuses(here)) == (["a"], [])
    assert "is yet to come" in fields_of(queue, "a")["failedReason"]


def test_a_run_that_a_guard_refused_fails_at_once_with_its_reason(here: Settings, queue: Queue) -> None:
    with connect(here) as session:
        now = clock.now()
        add_events(session, [Event(organization(1), contact(1), "email_sent", latest_slot("0 * * * *", now) - _MINUTE)])
        run_program("aggregate-hourly", "--last", "1h", settings=here)
        session.execute(b"DELETE FROM analytics.contact_activity")
    _scheduled(queue)
    _work(here, queue, "--drain").communicate()
    assert (ids_in(queue, "failed"), ids_in(queue, "delayed")) == (["a"], [])
    assert "--allow-shrink" in fields_of(queue, "a")["failedReason"]


def test_a_run_that_another_is_in_the_way_of_is_tried_again(here: Settings, queue: Queue) -> None:
    with connect(here) as holder:
        holder.execute_alone(_HOLD)
        other = start_program("aggregate-hourly", "--date", "2026-10-01", settings=here)
        wait_until(lambda: _statuses(here) == ["running"], "the other run")
        _scheduled(queue)
        _work(here, queue, "--drain", MAUNTIC_TAKEOVER_AFTER="1m").communicate()
    other.communicate()
    assert (ids_in(queue, "failed"), ids_in(queue, "delayed")) == ([], ["a"])
    assert fields_of(queue, "a")["atm"] == "1"
    ask(queue, "ZADD", f"{queue.key}:delayed", 0, "a")
    _work(here, queue, "--drain").communicate()
    assert ids_in(queue, "completed") == ["a"]
