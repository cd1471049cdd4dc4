"""The worker on a real queue: policy, malformed jobs, stalls, acknowledgements, a Redis that goes away."""

import json
import time
from contextlib import closing
from threading import Event, Thread
from typing import Any

import pytest

from mauntic_jobs.bullmq import (
    GiveBackError,
    Queue,
    ScheduledJob,
    UnrecoverableError,
    create_worker,
    register_scheduled_jobs,
)
from mauntic_jobs.errors import UnavailableError
from mauntic_jobs.stores.bullmq.commands import Taken
from mauntic_jobs.stores.bullmq.consumer import QueueConsumer
from mauntic_jobs.stores.bullmq.job import ReceivedJob
from tests.bullmq.queues import add, ask, fields_of, ids_in, now_ms
from tests.support import wait_until


def test_a_job_is_handed_over_and_completed_with_what_the_handler_returns(queue: Queue) -> None:
    add(queue, "a", "b", note="é")
    seen: list[ReceivedJob] = []

    def handler(job: ReceivedJob) -> dict[str, int]:
        seen.append(job)
        return {"done": len(seen)}

    create_worker(queue, handler).run(until_empty=True)
    assert [(job.id, job.name, job.data, job.attempts) for job in seen] == [
        ("a", "test", {"note": "é"}, 4),
        ("b", "test", {"note": "é"}, 4),
    ]
    assert sorted(ids_in(queue, "completed")) == ["a", "b"]
    assert json.loads(fields_of(queue, "b")["returnvalue"]) == {"done": 2}


def test_a_failing_job_is_tried_four_times_after_1_2_and_4_seconds(queue: Queue) -> None:
    add(queue, "a")

    def handler(job: ReceivedJob) -> None:
        raise ValueError(f"attempt {job.attempts_made + 1} by someone@example.com")

    delays = []
    for _ in range(3):
        create_worker(queue, handler).run(until_empty=True)
        delays.append(int(fields_of(queue, "a")["delay"]))
        # Let its time come.
        ask(queue, "ZADD", f"{queue.key}:delayed", 0, "a")
    create_worker(queue, handler).run(until_empty=True)
    assert delays == [1000, 2000, 4000]
    assert (ids_in(queue, "failed"), ids_in(queue, "delayed")) == (["a"], [])
    reason = fields_of(queue, "a")["failedReason"]
    assert reason.startswith("attempt 4 by ")
    assert "someone" not in reason


def test_an_unrecoverable_error_fails_the_job_at_once(queue: Queue) -> None:
    add(queue, "a")

    def handler(_job: ReceivedJob) -> None:
        raise UnrecoverableError("no")

    create_worker(queue, handler).run(until_empty=True)
    assert ids_in(queue, "failed") == ["a"]


def test_a_job_given_back_waits_in_front_with_all_its_attempts(queue: Queue) -> None:
    add(queue, "a", "b")
    seen: list[str] = []

    def handler(job: ReceivedJob) -> None:
        seen.append(job.id)
        worker.stop()
        raise GiveBackError

    worker = create_worker(queue, handler)
    worker.run()
    assert (seen, ids_in(queue, "wait")) == (["a"], ["b", "a"])
    assert "atm" not in fields_of(queue, "a")


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
    add(queue, "bad", "good")
    for name, value in fields.items():
        ask(queue, "HSET", f"{queue.key}:bad", name, value)
    create_worker(queue, lambda _: None).run(until_empty=True)
    assert (ids_in(queue, "failed"), ids_in(queue, "completed")) == (["bad"], ["good"])
    assert "cannot be read" in fields_of(queue, "bad")["failedReason"]


@pytest.mark.parametrize(
    "options",
    [
        {"removeOnComplete": {"age": "soon"}, "removeOnFail": {"count": []}},
        {"removeOnComplete": 10**30, "removeOnFail": 10**30},
        {"backoff": {"type": "exponential", "delay": 10**30}},
    ],
)
def test_options_that_no_script_could_use_do_not_keep_a_job_from_ending(queue: Queue, options: dict[str, Any]) -> None:
    add(queue, "good", "bad")
    for each in ("good", "bad"):
        ask(queue, "HSET", f"{queue.key}:{each}", "opts", json.dumps({"attempts": 2, **options}), "atm", 1)

    def handler(job: ReceivedJob) -> None:
        if job.id == "bad":
            raise ValueError("this time it is \ud800, which no encoding writes")

    create_worker(queue, handler).run(until_empty=True)
    assert (ids_in(queue, "completed"), ids_in(queue, "failed")) == (["good"], ["bad"])
    assert fields_of(queue, "bad")["failedReason"] == "this time it is ?, which no encoding writes"


def test_an_id_without_a_job_fails_and_holds_nobody_up(queue: Queue) -> None:
    add(queue, "a")
    ask(queue, "RPUSH", f"{queue.key}:wait", "ghost")
    create_worker(queue, lambda _: None).run(until_empty=True)
    assert (ids_in(queue, "failed"), ids_in(queue, "completed")) == (["ghost"], ["a"])


def test_completed_jobs_are_removed_after_an_hour_and_failed_ones_stay(queue: Queue) -> None:
    add(queue, "done", "undone", "later")
    for each in ("done", "undone", "later"):
        ask(queue, "HSET", f"{queue.key}:{each}", "opts", "{}")  # their producer set no policy

    def handler(job: ReceivedJob) -> None:
        if job.id == "undone":
            raise UnrecoverableError("no")
        if job.id == "later":
            for state, ended in (("completed", "done"), ("failed", "undone")):
                ask(queue, "ZADD", f"{queue.key}:{state}", now_ms() - 3_601_000, ended)

    create_worker(queue, handler).run(until_empty=True)
    assert (ids_in(queue, "completed"), ids_in(queue, "failed")) == (["later"], ["undone"])
    assert (fields_of(queue, "done"), fields_of(queue, "undone")["failedReason"]) == ({}, "no")


@pytest.mark.parametrize("spoiled", ["data", "timestamp"])
def test_a_spoiled_job_of_a_scheduler_fails_and_the_schedule_goes_on(queue: Queue, spoiled: str) -> None:
    register_scheduled_jobs(queue, [ScheduledJob("test", "0 * * * *")])
    (first,) = ids_in(queue, "delayed")
    ask(queue, "HSET", f"{queue.key}:{first}", spoiled, "{")
    ask(queue, "ZADD", f"{queue.key}:delayed", 0, first)
    create_worker(queue, lambda _: None).run(until_empty=True)
    assert ids_in(queue, "failed") == [first]
    (second,) = ids_in(queue, "delayed")
    assert int(second.rpartition(":")[2]) - int(first.rpartition(":")[2]) == 3_600_000


def test_a_schedule_that_cannot_go_on_is_told_and_its_job_is_done(queue: Queue) -> None:
    register_scheduled_jobs(queue, [ScheduledJob("test", "0 * * * *")])
    (first,) = ids_in(queue, "delayed")
    options = {**json.loads(fields_of(queue, first)["opts"]), "note": 10**30}
    ask(queue, "HSET", f"{queue.key}:{first}", "opts", json.dumps(options))
    ask(queue, "ZADD", f"{queue.key}:delayed", 0, first)
    told: list[str] = []
    create_worker(queue, lambda _: None, tell=told.append).run(until_empty=True)
    assert ["job scheduler test ends here" in line for line in told] == [True]
    assert (ids_in(queue, "completed"), ids_in(queue, "delayed")) == ([first], [])


def test_a_job_whose_worker_died_any_number_of_times_is_run_again(queue: Queue) -> None:
    add(queue, "a")
    with closing(queue.connect()) as redis:
        for _ in range(5):
            dead = QueueConsumer(redis, queue.key)
            assert dead.take(now_ms())
            redis.command("DEL", f"{queue.key}:a:lock")
            for _ in range(2):
                redis.command("DEL", f"{queue.key}:stalled-check")
                dead.recover(now_ms())
            assert ids_in(queue, "wait") == ["a"]
    create_worker(queue, lambda _: "done").run(until_empty=True)
    assert ids_in(queue, "completed") == ["a"]


def test_an_acknowledgement_that_fails_is_repeated_and_the_job_is_not(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(queue, "a")
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
    assert (calls, handled, ids_in(queue, "completed")) == (["a"] * 3, ["a"], ["a"])


def test_an_acknowledgement_counts_although_the_lock_ran_out_while_redis_was_away(queue: Queue) -> None:
    add(queue, "a")
    told: list[str] = []
    worker = create_worker(queue, lambda _: ask(queue, "DEL", f"{queue.key}:a:lock"), tell=told.append)
    worker.run(until_empty=True)
    assert (told, ids_in(queue, "completed"), ids_in(queue, "active")) == ([], ["a"], [])


def test_an_acknowledgement_whose_answer_was_lost_changes_nothing_more(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(queue, "a")
    finish = QueueConsumer.finish
    calls: list[str] = []

    def lose_the_first_answer(self: QueueConsumer, job: str, *rest: Any, **more: Any) -> int:
        calls.append(job)
        code = finish(self, job, *rest, **more)
        if len(calls) == 1:
            raise UnavailableError("Redis went away")
        return code

    monkeypatch.setattr(QueueConsumer, "finish", lose_the_first_answer)
    create_worker(queue, lambda _: None).run(until_empty=True)
    assert (len(calls), ids_in(queue, "completed"), ids_in(queue, "active")) == (3, ["a"], [])
    assert (fields_of(queue, "a")["atm"], ask(queue, "EXISTS", f"{queue.key}:a:lock")) == ("1", 0)


def test_a_worker_whose_lock_was_taken_says_so_and_goes_on(queue: Queue) -> None:
    add(queue, "a", "b")
    told: list[str] = []

    def handler(job: ReceivedJob) -> None:
        if job.id == "a":
            ask(queue, "SET", f"{queue.key}:a:lock", "another's")

    create_worker(queue, handler, tell=told.append).run(until_empty=True)
    assert ["is another's by now" in line for line in told] == [True]
    assert ids_in(queue, "completed") == ["b"]


@pytest.mark.parametrize("place", ["connect", "take"])
def test_while_redis_is_away_a_worker_says_so_once_and_goes_on_trying(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    tries: list[int] = []
    # A replica, or a Redis out of memory, lets everybody connect and then does nothing.
    owner: Any = {"connect": Queue, "take": QueueConsumer}[place]
    method = getattr(owner, place)

    def refuse(*given: Any, **named: Any) -> Any:
        tries.append(1)
        if len(tries) <= 4:
            raise UnavailableError("Cannot reach Redis")
        return method(*given, **named)

    add(queue, "a")
    monkeypatch.setattr(owner, place, refuse)
    told: list[str] = []
    pauses: list[float] = []
    worker = create_worker(queue, lambda _: None, tell=told.append)
    monkeypatch.setattr(worker._stopping, "wait", pauses.append)
    worker.run(until_empty=True)
    assert [line.partition(": ")[2] for line in told] == ["goes on trying: Cannot reach Redis", "works again"]
    assert [low <= pause <= 2 * low for low, pause in zip((0.1, 0.2, 0.4, 0.8), pauses, strict=True)] == [True] * 4
    assert ids_in(queue, "completed") == ["a"]


def test_a_worker_whose_connections_are_cut_goes_on(queue: Queue) -> None:
    handled: list[str] = []
    worker = create_worker(queue, lambda job: handled.append(job.id))
    thread = Thread(target=worker.run)
    thread.start()
    add(queue, "a")
    wait_until(lambda: ids_in(queue, "completed") == ["a"], "the first job")
    ask(queue, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    add(queue, "b")
    wait_until(lambda: len(ids_in(queue, "completed")) == 2, "the second job")
    worker.stop()
    thread.join()
    assert handled == ["a", "b"]


def test_after_stop_no_job_is_taken_unseen(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    add(queue, "a")
    take = QueueConsumer.take
    taking, go_on = Event(), Event()

    def take_slowly(self: QueueConsumer, now: int) -> Taken | None:
        taking.set()
        assert go_on.wait(60)
        return take(self, now)

    monkeypatch.setattr(QueueConsumer, "take", take_slowly)
    hold = Event()
    worker = create_worker(queue, lambda _: hold.wait(60))
    thread = Thread(target=worker.run)
    thread.start()
    assert taking.wait(60)
    seen: list[str | None] = []

    def stop() -> None:
        worker.stop()
        seen.append(worker.busy_with)

    stopper = Thread(target=stop)
    stopper.start()
    wait_until(worker._stopping.is_set, "the stop")
    go_on.set()
    stopper.join()
    hold.set()
    thread.join()
    assert (seen, ids_in(queue, "completed")) == (["a"], ["a"])


def test_an_idle_worker_is_woken_by_a_job(queue: Queue) -> None:
    handled: list[str] = []
    worker = create_worker(queue, lambda job: handled.append(job.id))
    thread = Thread(target=worker.run)
    thread.start()
    add(queue, "a")
    wait_until(lambda: handled, "the job")
    worker.stop()
    thread.join()
    assert handled == ["a"]
