"""A drain waits for what cannot be taken yet, and says what it has left."""

import time
from contextlib import closing
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from mauntic_jobs.delivery.consumer.queue_calls import QueueCalls
from mauntic_jobs.errors import ExitCode, UnavailableError
from mauntic_jobs.stores.bullmq import commands as scripts
from mauntic_jobs.stores.bullmq.consumer import QueueConsumer
from mauntic_jobs.stores.bullmq.stalls import FIELD as STALLS
from mauntic_jobs.stores.redis.client import open_redis
from tests.delivery.crash import backlog, ended, start
from tests.delivery.proxy import running_proxy
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.support import wait_until

_SCORES_A_MILLISECOND = 4096


@pytest.fixture
def ready(world: World, sink: Sink) -> World:
    world.provider(sink.host, sink.port)
    return world


def limit(world: World, jobs: int, milliseconds: int) -> None:
    """Set the queue's rate limit, as Node's `queue.setGlobalRateLimit` does."""
    world.ask("HSET", f"{world.base}:meta", "max", jobs, "duration", milliseconds)


def due_in(world: World, job: str, seconds: float) -> None:
    world.ask("ZADD", f"{world.base}:delayed", int((time.time() + seconds) * 1000) * _SCORES_A_MILLISECOND, job)


def die_with(world: World, job: str, lock_seconds: float) -> None:
    """Take the next job as a process of ours that dies then, and whose lock runs out."""
    with closing(open_redis(world.settings)) as redis:
        taken = QueueConsumer(redis, world.base).take(int(time.time() * 1000))
        assert taken is not None
        assert taken.id == job
        redis.command("HSET", f"{world.base}:{job}", STALLS, 1)
        redis.command("PEXPIRE", f"{world.base}:{job}:lock", int(lock_seconds * 1000))


def test_it_delivers_what_a_consumer_that_has_died_held(ready: World, sink: Sink) -> None:
    ready.add(ready.message("d1"), ready.message("d2"), ids=["j1", "j2"])
    die_with(ready, "j1", lock_seconds=2)
    assert not ready.deliver().left
    assert set(ready.jobs_in("completed")) == {"j1", "j2"}
    assert len(sink.messages()) == 2


def test_it_keeps_to_the_rate_limit_of_the_queue_and_waits_for_it(ready: World, sink: Sink) -> None:
    limit(ready, 4, 1000)
    ready.add(*(ready.message(f"d{number}") for number in range(16)))
    began = time.monotonic()
    assert not ready.deliver().left
    assert len(sink.messages()) == 16
    # Four a second, and not four each time that the queue is looked at anyway.
    assert 2.5 < time.monotonic() - began < 6


def test_it_waits_for_an_ambiguous_delivery_that_is_due_soon(ready: World) -> None:
    ready.add(ready.message("d1", emailAddress="drop-after-dot-once@example.com"), ids=["j1"])
    assert ready.deliver(drain_timeout=timedelta(seconds=1)).left
    assert ready.states() == {"d1": "ambiguous"}
    assert "email: 1 left, waiting for their time" in ready.said[-1]
    ready.write(
        "UPDATE mauntic_jobs.deliveries SET until = clock_timestamp() + interval '2 seconds'"
        " WHERE organization_id = %(organization)s"
    )
    due_in(ready, "j1", 2)
    assert not ready.deliver().left
    assert ready.states() == {"d1": "sent"}


def test_what_it_leaves_is_named_by_reason_and_exits_75(ready: World) -> None:
    limit(ready, 1, 60_000)
    ready.add(*(ready.message(f"d{number}") for number in range(4)), ids=["j0", "j1", "j2", "j3"])
    die_with(ready, "j0", lock_seconds=60)
    ready.ask("DEL", f"{ready.base}:limiter")
    status, errors = ended(start(ready, "--drain", "--drain-timeout", "2s"))
    assert status == ExitCode.TRY_LATER
    assert "email: 2 left, waiting for the queue's rate limit" in errors
    assert "email: 1 left, waiting for another consumer" in errors
    assert len(ready.jobs_in("completed")) == 1
    status, errors = ended(start(ready, "--drain", "--drain-timeout", "1s", "--processes", "2"))
    assert status == ExitCode.TRY_LATER
    assert "email: 2 left, waiting for the queue's rate limit" in errors


def test_waiting_for_a_job_takes_few_looks_at_its_queue(ready: World) -> None:
    ready.add(ready.message("d1"), ids=["j1"])
    ready.deliver(drain_timeout=timedelta(seconds=1))
    limit(ready, 1, 60_000)
    ready.add(ready.message("d2"), ready.message("d3"), ids=["j2", "j3"])
    ready.ask("CONFIG", "RESETSTAT")
    assert ready.deliver(drain_timeout=timedelta(seconds=2)).left
    calls = {name: found["calls"] for name, found in ready.ask("INFO", "commandstats").items()}
    # A look of its own each quarter of a second, one by the slot that it wakes, and those at the beginning.
    assert calls["cmdstat_pttl"] < 100


def test_an_empty_queue_is_left_at_once(ready: World) -> None:
    began = time.monotonic()
    assert not ready.deliver().left
    assert time.monotonic() - began < 2


def test_it_does_not_wait_for_a_store_for_ever(ready: World, sink: Sink) -> None:
    assert ready.settings.database_url
    place = urlsplit(ready.settings.database_url.get_secret_value())
    assert place.hostname
    assert place.port
    sink.behaviour.slow_seconds = 0.1
    backlog(ready, 200, recipient="slow+{}@example.com")
    with running_proxy(place.hostname, place.port) as proxy:
        netloc = f"{place.username}:{place.password}@127.0.0.1:{proxy.port}"
        process = start(ready, "--drain", "--drain-timeout=1s", DATABASE_URL=place._replace(netloc=netloc).geturl())
        wait_until(sink.messages, "the first message")
        proxy.refuse()
        proxy.reset_all()
        status, errors = ended(process)
    assert status == ExitCode.TRY_LATER
    assert "the drain ends, and leaves what there is" in errors
    assert ready.jobs_in("active") == []


@pytest.mark.parametrize("script", ["moveToActive", "moveToFinished"])
def test_a_job_whose_answer_was_lost_is_not_left_until_its_lock_runs_out(
    ready: World, sink: Sink, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    fine = QueueCalls.run
    lost: list[str] = []
    noted: dict[str, str | None] = {}

    async def lose_one(calls: QueueCalls, call: scripts.ScriptCall) -> Any:
        answer = await fine(calls, call)
        taken = scripts.taken(answer)
        if taken:
            noted[taken.id] = taken.fields.get(STALLS)
        if taken and call.script.startswith(script) and not lost:
            lost.append(taken.id)
            raise UnavailableError("Redis went away before it answered.")
        return answer

    monkeypatch.setattr(QueueCalls, "run", lose_one)
    ready.add(*(ready.message(f"d{number}") for number in range(3)), ids=["j0", "j1", "j2"])
    engine = ready.deliver(concurrency={"email": 1}, drain_timeout=timedelta(seconds=10))
    assert len(lost) == 1
    # Nothing in the job says any more that its next stall is this process's.
    assert noted[lost[0]] == "0"
    assert not engine.left
    assert set(ready.jobs_in("completed")) == {"j0", "j1", "j2"}
    assert len(sink.messages()) == 3
