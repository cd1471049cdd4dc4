"""The worker on a real queue: policy, malformed jobs, stalls, acknowledgements, draining."""

import json
import signal
import time
from contextlib import closing
from datetime import timedelta
from threading import Thread
from typing import Any
from uuid import uuid4

import pytest

from mauntic_jobs import clock
from mauntic_jobs.bullmq import (
    GiveBackError,
    Queue,
    Registration,
    ScheduledJob,
    UnrecoverableError,
    create_worker,
    register_scheduled_jobs,
    unregister_scheduled_jobs,
)
from mauntic_jobs.bullmq.job import ReceivedJob, received
from mauntic_jobs.config import Settings
from mauntic_jobs.cron import latest_slot
from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ExitCode, UnavailableError, UsageError
from mauntic_jobs.runner.ledger import list_runs
from mauntic_jobs.stores.bullmq import QueueJob, add_jobs
from mauntic_jobs.stores.bullmq_consumer import QueueConsumer, Taken
from mauntic_jobs.stores.postgres import connect
from mauntic_jobs.stores.redis import RedisScripts
from tests.support import start_program, wait_until


@pytest.fixture
def queue(servers: Servers) -> Queue:
    return Queue(servers.redis_url, "analytics:aggregate-hourly", f"test-{uuid4().hex}")


def _now() -> int:
    return round(clock.now().timestamp() * 1000)


def _add(queue: Queue, *ids: str, **data: Any) -> None:
    with closing(queue.connect()) as redis:
        add_jobs(redis, queue.prefix, [QueueJob(queue.name, each, "test", data) for each in ids], _now())


def _redis(queue: Queue, *words: Any) -> Any:
    with closing(queue.connect()) as redis:
        return redis.command(*words)


def _state(queue: Queue, job: str) -> dict[str, str]:
    found = _redis(queue, "HGETALL", f"{queue.key}:{job}")
    return {name.decode(): value.decode() for name, value in found.items()}


def _ids(queue: Queue, name: str) -> list[str]:
    key = f"{queue.key}:{name}"
    found = _redis(queue, "LRANGE", key, 0, -1) if name in ("wait", "active") else _redis(queue, "ZRANGE", key, 0, -1)
    return [each.decode() for each in found]


def test_a_job_is_handed_over_and_completed_with_what_the_handler_returns(queue: Queue) -> None:
    _add(queue, "a", "b", note="é")
    seen: list[ReceivedJob] = []

    def handler(job: ReceivedJob) -> dict[str, int]:
        seen.append(job)
        return {"done": len(seen)}

    create_worker(queue, handler).run(until_empty=True)
    assert [(job.id, job.name, job.data, job.attempts) for job in seen] == [
        ("a", "test", {"note": "é"}, 4),
        ("b", "test", {"note": "é"}, 4),
    ]
    assert sorted(_ids(queue, "completed")) == ["a", "b"]
    assert json.loads(_state(queue, "b")["returnvalue"]) == {"done": 2}


def test_a_failing_job_is_tried_four_times_after_1_2_and_4_seconds(queue: Queue) -> None:
    _add(queue, "a")

    def handler(job: ReceivedJob) -> None:
        raise ValueError(f"attempt {job.attempts_made + 1} by someone@example.com")

    delays = []
    for _ in range(3):
        create_worker(queue, handler).run(until_empty=True)
        delays.append(int(_state(queue, "a")["delay"]))
        # Let its time come.
        _redis(queue, "ZADD", f"{queue.key}:delayed", 0, "a")
    create_worker(queue, handler).run(until_empty=True)
    assert delays == [1000, 2000, 4000]
    assert (_ids(queue, "failed"), _ids(queue, "delayed")) == (["a"], [])
    reason = _state(queue, "a")["failedReason"]
    assert reason.startswith("attempt 4 by ")
    assert "someone" not in reason


def test_an_unrecoverable_error_fails_the_job_at_once(queue: Queue) -> None:
    _add(queue, "a")

    def handler(_job: ReceivedJob) -> None:
        raise UnrecoverableError("no")

    create_worker(queue, handler).run(until_empty=True)
    assert _ids(queue, "failed") == ["a"]


def test_a_job_given_back_waits_in_front_with_all_its_attempts(queue: Queue) -> None:
    _add(queue, "a", "b")
    seen: list[str] = []

    def handler(job: ReceivedJob) -> None:
        seen.append(job.id)
        worker.stop()
        raise GiveBackError

    worker = create_worker(queue, handler)
    worker.run()
    assert (seen, _ids(queue, "wait")) == (["a"], ["b", "a"])
    assert "atm" not in _state(queue, "a")


@pytest.mark.parametrize(
    "fields",
    [
        {"data": "{not json"},
        {"data": "[1]"},
        {"opts": "nonsense"},
        {"opts": "[]"},
        {"timestamp": "soon"},
        {"timestamp": "9" * 40},
        {"data": "x" * 1_000_000},
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_a_malformed_job_fails_with_a_reason_and_the_others_go_on(queue: Queue, fields: dict[str, str]) -> None:
    _add(queue, "bad", "good")
    for name, value in fields.items():
        _redis(queue, "HSET", f"{queue.key}:bad", name, value)
    create_worker(queue, lambda _: None).run(until_empty=True)
    assert (_ids(queue, "failed"), _ids(queue, "completed")) == (["bad"], ["good"])
    assert "cannot be read" in _state(queue, "bad")["failedReason"]


@pytest.mark.parametrize("attempts", [None, 0, -1, "four", 1.5, 10**9])
def test_attempts_that_cannot_be_meant_are_the_platforms(attempts: object) -> None:
    assert _received({"attempts": attempts}).attempts == 4


@pytest.mark.parametrize(
    ("backoff", "made", "seconds"),
    [
        (None, 2, 4),
        ({"type": "exponential", "delay": 500}, 1, 1),
        ({"type": "fixed", "delay": 3000}, 5, 3),
        (7000, 3, 7),
        ({"type": "custom"}, 0, 1),
        ({"type": "exponential", "delay": None}, 0, 1),
        ({"type": "exponential", "delay": 1000}, 90, 3600),
    ],
)
def test_the_wait_is_the_jobs_own_or_the_platforms(backoff: object, made: int, seconds: int) -> None:
    job = _received({"backoff": backoff}, atm=str(made))
    assert job.retry_delay() == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, {"age": 3600}),
        ({"removeOnComplete": True}, {"count": 0}),
        ({"removeOnComplete": False}, {"count": -1}),
        ({"removeOnComplete": 5}, {"count": 5}),
        ({"removeOnComplete": {"age": 9, "count": 1}}, {"age": 9, "count": 1}),
    ],
)
def test_completed_jobs_stay_as_long_as_they_ask_for_or_an_hour(options: dict[str, Any], kept: dict[str, int]) -> None:
    job = _received(options)
    assert (job.kept(failed=False), job.kept(failed=True)) == (kept, {"count": -1})


def _received(options: dict[str, Any], **fields: str) -> ReceivedJob:
    return received(Taken("1", {"name": "test", "data": "{}", "opts": json.dumps(options), "timestamp": "0", **fields}))


def test_a_job_is_due_when_its_scheduler_meant_it() -> None:
    taken = Taken("repeat:aggregate-hourly:1790000000000", {"name": "test", "data": "{}", "timestamp": "5"})
    assert received(taken).due.timestamp() == 1_790_000_000


def test_a_job_whose_worker_died_any_number_of_times_is_run_again(queue: Queue) -> None:
    _add(queue, "a")
    with closing(queue.connect()) as redis:
        for _ in range(5):
            dead = QueueConsumer(redis, queue.key)
            assert dead.take(_now())
            redis.command("DEL", f"{queue.key}:a:lock")
            for _ in range(2):
                redis.command("DEL", f"{queue.key}:stalled-check")
                dead.recover(_now())
            assert _ids(queue, "wait") == ["a"]
    create_worker(queue, lambda _: "done").run(until_empty=True)
    assert _ids(queue, "completed") == ["a"]


def test_an_acknowledgement_that_fails_is_repeated_and_the_job_is_not(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    _add(queue, "a")
    calls: list[str] = []
    finish = QueueConsumer.finish

    def refuse_twice(self: QueueConsumer, job: str, *rest: Any, **more: Any) -> int:
        calls.append(job)
        if len(calls) <= 2:
            raise UnavailableError("Redis went away")
        return finish(self, job, *rest, **more)

    monkeypatch.setattr(QueueConsumer, "finish", refuse_twice)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    handled: list[str] = []
    create_worker(queue, lambda job: handled.append(job.id)).run(until_empty=True)
    assert (calls, handled, _ids(queue, "completed")) == (["a"] * 3, ["a"], ["a"])


def test_a_worker_whose_lock_was_taken_says_so_and_goes_on(queue: Queue) -> None:
    _add(queue, "a", "b")
    told: list[str] = []

    def handler(job: ReceivedJob) -> None:
        if job.id == "a":
            _redis(queue, "SET", f"{queue.key}:a:lock", "another's")

    create_worker(queue, handler, tell=told.append).run(until_empty=True)
    assert ["was taken by another worker" in line for line in told] == [True]
    assert _ids(queue, "completed") == ["b"]


def test_while_redis_is_away_a_worker_says_so_once_and_goes_on_trying(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []
    connected = Queue.connect

    def refuse(self: Queue) -> RedisScripts:
        tries.append(1)
        if len(tries) <= 4:
            raise UnavailableError("Cannot reach Redis")
        return connected(self)

    _add(queue, "a")
    monkeypatch.setattr(Queue, "connect", refuse)
    told: list[str] = []
    worker = create_worker(queue, lambda _: None, tell=told.append)
    monkeypatch.setattr(worker._stopping, "wait", lambda _: False)
    worker.run(until_empty=True)
    assert [line.partition(": ")[2] for line in told] == ["goes on trying: Cannot reach Redis", "works again"]


def test_an_idle_worker_is_woken_by_a_job(queue: Queue) -> None:
    handled: list[str] = []
    worker = create_worker(queue, lambda job: handled.append(job.id))
    thread = Thread(target=worker.run)
    thread.start()
    _add(queue, "a")
    wait_until(lambda: handled, "the job")
    worker.stop()
    thread.join()
    assert handled == ["a"]


def test_registering_is_idempotent_and_keeps_a_job_that_waits(queue: Queue) -> None:
    # The next minute is then not the next fifth one.
    now = latest_slot("*/5 * * * *", clock.now())
    job = ScheduledJob("test", "* * * * *", {"note": 1})
    assert register_scheduled_jobs(queue, [job], now=now) == {"test": Registration.ADDED}
    (first,) = _ids(queue, "delayed")
    with closing(queue.connect()) as redis:
        assert QueueConsumer(redis, queue.key).take(_now() + 60_000)
    assert register_scheduled_jobs(queue, [job], now=now) == {"test": Registration.UNCHANGED}
    assert _ids(queue, "active") == [first]
    changed = ScheduledJob("test", "*/5 * * * *", {"note": 1})
    assert register_scheduled_jobs(queue, [changed], now=now, dry_run=True) == {"test": Registration.CHANGED}
    assert register_scheduled_jobs(queue, [changed], now=now) == {"test": Registration.CHANGED}
    assert unregister_scheduled_jobs(queue, ["test", "other"]) == {
        "test": Registration.REMOVED,
        "other": Registration.ABSENT,
    }
    assert _ids(queue, "delayed") == []


def test_a_cron_line_that_is_none_is_refused_before_anything_is_registered(queue: Queue) -> None:
    with pytest.raises(UsageError, match="is no cron line"):
        register_scheduled_jobs(queue, [ScheduledJob("test", "61 * * * *")])
    assert _redis(queue, "KEYS", f"{queue.key}:*") == []


@pytest.fixture
def here(direct_settings: Settings, queue: Queue) -> Settings:
    own = {"redis_url": queue.redis_url, "queue_prefix": queue.prefix}
    return Settings(**{**direct_settings.model_dump(), **own})


def _work(here: Settings, queue: Queue, *arguments: str) -> Any:
    variables = {"REDIS_URL": queue.redis_url, "MAUNTIC_QUEUE_PREFIX": queue.prefix, "MAUNTIC_TAKEOVER_AFTER": "1s"}
    return start_program("work", queue.name, *arguments, settings=here, **variables)


def _scheduled(queue: Queue) -> None:
    with closing(queue.connect()) as redis:
        add_jobs(redis, queue.prefix, [QueueJob(queue.name, "a", "aggregate-hourly", {})], _now())


_HOLD = b"BEGIN; LOCK TABLE analytics.event_aggregates IN ACCESS EXCLUSIVE MODE"


def _statuses(here: Settings) -> list[str]:
    with connect(here) as session:
        return [row["status"] for row in list_runs(session)]


def test_a_run_that_outlasts_the_drain_goes_back_to_the_queue(here: Settings, queue: Queue) -> None:
    _scheduled(queue)
    with connect(here) as holder:
        holder.execute(_HOLD)
        worker = _work(here, queue, "--drain-timeout", "0.5s")
        wait_until(lambda: _statuses(here) == ["running"], "a run")
        worker.send_signal(signal.SIGTERM)
        _, errors = worker.communicate()
    assert worker.returncode == ExitCode.TRY_LATER, errors
    assert (_ids(queue, "wait"), _ids(queue, "active")) == (["a"], [])
    again = _work(here, queue, "--drain")
    again.communicate()
    assert (_ids(queue, "completed"), _statuses(here)) == (["a"], ["succeeded", "failed"])


def test_a_run_that_ends_within_the_drain_is_completed(here: Settings, queue: Queue) -> None:
    _scheduled(queue)
    with connect(here) as holder:
        holder.execute(_HOLD)
        worker = _work(here, queue)
        wait_until(lambda: _statuses(here) == ["running"], "a run")
        worker.send_signal(signal.SIGINT)
        for line in worker.stderr:
            if "waiting for" in line:
                break
    worker.communicate()
    assert (worker.returncode, _ids(queue, "completed"), _statuses(here)) == (ExitCode.DONE, ["a"], ["succeeded"])


def test_a_worker_killed_in_mid_run_loses_and_doubles_nothing(here: Settings, queue: Queue) -> None:
    _scheduled(queue)
    with connect(here) as holder:
        holder.execute(_HOLD)
        worker = _work(here, queue)
        wait_until(lambda: _statuses(here) == ["running"], "a run")
        worker.kill()
    # What it had started goes on, and has answered the slot.
    wait_until(lambda: _statuses(here) == ["succeeded"], "the orphan's end")
    worker.communicate()
    _redis(queue, "DEL", f"{queue.key}:a:lock")
    again = _work(here, queue)

    def completed() -> bool:
        _redis(queue, "DEL", f"{queue.key}:stalled-check")
        with closing(queue.connect()) as redis:
            QueueConsumer(redis, queue.key).recover(_now())
        return _ids(queue, "completed") == ["a"]

    wait_until(completed, "the job's completion")
    again.terminate()
    again.communicate()
    assert _statuses(here) == ["succeeded"]
