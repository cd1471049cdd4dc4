"""The outbox: no more jobs on a queue than it has room for, each exactly once, whatever is killed meanwhile."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.runner import outbox
from mauntic_jobs.runner.outbox import Published, count_unpublished, publish, publish_all
from mauntic_jobs.runner.request import Launcher
from mauntic_jobs.scheduler.upkeep import TASKS
from mauntic_jobs.scheduler.upkeep_runner import UpkeepRunner
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.stores.redis.client import RedisScripts, open_redis
from tests.support import run_program, start_program, wait_until

QUEUE = "journey:execute-step"
OTHER = "billing:invoices"
NOW = datetime(2026, 11, 5, 10, tzinfo=UTC)
_TASK = next(task for task in TASKS if task.name == "outbox")


class Executor:
    """Takes the jobs of a queue from its list, and remembers which and how many there were at most.

    As with the platform's executor, a job that was taken keeps its key for a while.
    """

    def __init__(self, redis: Any, base: str) -> None:
        self._redis = redis
        self._wait = f"{base}:wait"
        self.taken: list[str] = []
        self.most = 0

    def take(self, count: int) -> None:
        self.most = max(self.most, self.waiting)
        self.taken += self._redis.rpop(self._wait, count) or []

    @property
    def waiting(self) -> int:
        return int(self._redis.llen(self._wait))

    @contextmanager
    def at_work(self, count: int, seconds: float) -> Iterator[None]:
        """Take some jobs every few moments while the body runs."""
        ended = threading.Event()

        def work() -> None:
            while not ended.wait(seconds):
                self.take(count)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@pytest.fixture
def ready(settings: Settings, servers: Servers) -> Settings:
    """Return settings with a queue prefix of the test's own."""
    own = {"redis_url": servers.redis_url, "queue_prefix": f"{{test-{uuid4().hex}}}"}
    return Settings(**{**settings.model_dump(), **own})


@pytest.fixture
def session(ready: Settings) -> Iterator[Session]:
    with connect(ready) as opened:
        yield opened


@pytest.fixture
def scripts(ready: Settings) -> Iterator[RedisScripts]:
    with closing(open_redis(ready)) as opened:
        yield opened


@pytest.fixture
def redis(servers: Servers) -> Iterator[Any]:
    with Redis.from_url(servers.redis_url, decode_responses=True) as client:
        yield client


def environment(settings: Settings) -> dict[str, str]:
    assert settings.redis_url
    return {"REDIS_URL": settings.redis_url.get_secret_value(), "MAUNTIC_QUEUE_PREFIX": settings.queue_prefix}


def fill(session: Session, count: int, queue: str = QUEUE) -> list[str]:
    session.execute(
        b"INSERT INTO mauntic_jobs.outbox (queue, job_id, name, data)"
        b" SELECT %(queue)s, 'job-' || n, 'execute-step', '{}' FROM generate_series(1, %(count)s) AS n",
        {"queue": queue, "count": count},
    )
    return [f"job-{n}" for n in range(1, count + 1)]


def small(monkeypatch: pytest.MonkeyPatch, most: int = 50, batch: int = 20) -> None:
    monkeypatch.setattr(outbox, "MAX_WAITING", most)
    monkeypatch.setattr(outbox, "_BATCH", batch)
    monkeypatch.setattr(outbox, "_LOOK_SECONDS", 0.02)


def test_a_queue_gets_no_more_than_it_has_room_for(
    ready: Settings, session: Session, scripts: RedisScripts, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    jobs = fill(session, 120)
    executor = Executor(redis, f"{ready.queue_prefix}:{QUEUE}")
    assert publish(session, scripts, ready, NOW) == Published(50, 0, full=True)
    assert publish(session, scripts, ready, NOW) == Published(0, 0, full=True)
    assert count_unpublished(session) == 70
    executor.take(7)
    assert publish(session, scripts, ready, NOW) == Published(7, 0, full=True)
    executor.take(50)
    # To the last one: whether there are more is not known then.
    assert publish(session, scripts, ready, NOW) == Published(50, 0, full=True)
    executor.take(50)
    assert publish(session, scripts, ready, NOW) == Published(13, 0, full=False)
    executor.take(50)
    assert executor.taken == jobs
    assert executor.most == 50


@pytest.mark.parametrize("place", ["paused", "prioritized"])
def test_jobs_that_wait_elsewhere_take_room_and_delayed_ones_do_not(
    ready: Settings, session: Session, scripts: RedisScripts, redis: Any, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    small(monkeypatch)
    fill(session, 100)
    base = f"{ready.queue_prefix}:{QUEUE}"
    redis.zadd(f"{base}:delayed", {f"delayed-{n}": n for n in range(60)})
    if place == "paused":
        redis.rpush(f"{base}:paused", *(f"paused-{n}" for n in range(45)))
    else:
        redis.zadd(f"{base}:prioritized", {f"prioritized-{n}": n for n in range(45)})
    assert publish(session, scripts, ready, NOW) == Published(5, 0, full=True)


def test_a_full_queue_holds_up_no_other(
    ready: Settings, session: Session, scripts: RedisScripts, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    fill(session, 60)
    jobs = fill(session, 30, OTHER)
    assert publish(session, scripts, ready, NOW) == Published(80, 0, full=True)
    assert sorted(redis.lrange(f"{ready.queue_prefix}:{OTHER}:wait", 0, -1)) == sorted(jobs)
    assert count_unpublished(session) == 10


def test_whoever_waits_goes_on_as_the_executor_takes_jobs(
    ready: Settings, session: Session, scripts: RedisScripts, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    jobs = fill(session, 500)
    executor = Executor(redis, f"{ready.queue_prefix}:{QUEUE}")

    def clock() -> datetime:
        return datetime.now(UTC)

    with executor.at_work(15, 0.01):
        done = publish_all(session, scripts, ready, clock, timedelta(minutes=1))
        assert done == Published(500, 0, full=False)
        wait_until(lambda: len(executor.taken) == 500, "the executor to take all")
    assert executor.taken == jobs
    assert executor.most <= 50


def test_several_that_publish_at_once_double_nothing_and_keep_near_the_bound(
    ready: Settings, session: Session, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    jobs = fill(session, 400)
    executor = Executor(redis, f"{ready.queue_prefix}:{QUEUE}")

    def work() -> None:
        with connect(ready) as own, closing(open_redis(ready)) as scripts:
            publish_all(own, scripts, ready, lambda: NOW, timedelta(minutes=1))

    threads = [threading.Thread(target=work) for _ in range(4)]
    with executor.at_work(20, 0.01):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: len(executor.taken) >= 400, "the executor to take all")
    assert sorted(executor.taken) == sorted(jobs)
    # Each may have seen the room before another filled it.
    assert executor.most <= 50 + 3 * 20


@pytest.mark.slow
def test_killed_again_and_again_it_loses_and_doubles_nothing(ready: Settings, session: Session, redis: Any) -> None:
    random = Random(1)
    jobs = fill(session, 15_000)
    executor = Executor(redis, f"{ready.queue_prefix}:{QUEUE}")
    kills = 0

    def is_less(before: int) -> bool:
        return count_unpublished(session) < before

    with executor.at_work(1000, 0.05):
        while count_unpublished(session):
            process = start_program("outbox", "publish", "--wait", "1h", settings=ready, **environment(ready))
            before = count_unpublished(session)
            if kills < 4:
                wait_until(partial(is_less, before), "it to publish some")
                time.sleep(random.uniform(0, 0.1))
                process.kill()
                kills += 1
            process.communicate(timeout=60)
        wait_until(lambda: len(executor.taken) >= len(jobs), "the executor to take all")
    assert sorted(executor.taken) == sorted(jobs)
    assert executor.most <= outbox.MAX_WAITING + 500
    assert kills == 4


def put_on_queue(redis: Any, base: str, count: int) -> None:
    for start in range(0, count, 1000):
        redis.rpush(f"{base}:wait", *(f"old-{n}" for n in range(start, min(start + 1000, count))))


def test_the_command_says_what_found_no_room(ready: Settings, session: Session, redis: Any) -> None:
    base = f"{ready.queue_prefix}:{QUEUE}"
    put_on_queue(redis, base, outbox.MAX_WAITING - 10)
    fill(session, 30)
    done = run_program("outbox", "publish", settings=ready, **environment(ready))
    assert (done.returncode, done.stdout) == (ExitCode.PARTIAL, "10 jobs published, 0 no longer wanted\n")
    assert done.stderr.startswith("20 in the outbox, because 10,000 wait on their queue")
    status = json.loads(run_program("status", "--json", settings=ready, **environment(ready)).stdout)
    assert status["outbox"] == 20
    (finding,) = [each for each in status["findings"] if each["subject"] == "outbox"]
    assert finding["text"].startswith("20 jobs of runs not on the queue yet")
    quiet = run_program("outbox", "publish", "--quiet", settings=ready, **environment(ready))
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (ExitCode.PARTIAL, "", "")
    redis.delete(f"{base}:wait")
    done = run_program("outbox", "publish", "--json", settings=ready, **environment(ready))
    assert (done.returncode, json.loads(done.stdout)) == (ExitCode.DONE, {"published": 20, "dropped": 0, "left": 0})


def started(upkeep: UpkeepRunner) -> Sequence[str]:
    return [child.task.name for child in upkeep._children]


def test_the_clock_publishes_what_is_left_and_only_then(ready: Settings, session: Session, redis: Any) -> None:
    lines: list[str] = []
    with UpkeepRunner(ready, Launcher.SCHEDULE, lines.append, [_TASK]) as upkeep:
        upkeep.start_due(session)
        assert started(upkeep) == []
        # The slot was not spent.
        fill(session, 30)
        upkeep.start_due(session)
        assert started(upkeep) == ["outbox"]
    assert Executor(redis, f"{ready.queue_prefix}:{QUEUE}").waiting == 30
    assert lines == []
    row = session.row(b"SELECT exit_code, failures FROM mauntic_jobs.upkeep WHERE task = 'outbox'")
    assert row == {"exit_code": 0, "failures": 0}
