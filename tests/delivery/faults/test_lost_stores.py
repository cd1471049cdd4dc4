"""Stores that are killed, stopped at once, or come back with less than they had: every message is accounted for."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from tests.delivery.crash import backlog, check, deliver_all, ended, start
from tests.delivery.own_stores import OwnStore, own_postgres, own_redis
from tests.delivery.sink import Sink
from tests.delivery.world import World, new_world
from tests.pooler import running_pgbouncer
from tests.support import wait_until

MESSAGES = 100


@pytest.fixture
def redis() -> Iterator[OwnStore]:
    with own_redis() as store:
        yield store


@pytest.fixture
def world_on_own_redis(direct_settings: Settings, redis: OwnStore, sink: Sink) -> Iterator[World]:
    with new_world(direct_settings, redis.url) as world:
        world.provider(sink.host, sink.port)
        yield world


def sent(sink: Sink, more_than: int) -> None:
    wait_until(lambda: len(sink.messages()) > more_than, "messages")


def test_redis_is_killed(world_on_own_redis: World, redis: OwnStore, sink: Sink) -> None:
    world = world_on_own_redis
    backlog(world, MESSAGES)
    process = start(world, "--drain")
    sent(sink, 10)
    redis.end()
    redis.start()
    status, errors = ended(process)
    assert status == 0, errors
    deliver_all(world)
    check(world, sink, MESSAGES)


def test_redis_is_rolled_back(world_on_own_redis: World, redis: OwnStore, sink: Sink, tmp_path: Path) -> None:
    world = world_on_own_redis
    backlog(world, MESSAGES)
    shutil.copytree(redis.directory, tmp_path / "before")
    process = start(world)
    sent(sink, MESSAGES // 2)
    redis.end()
    shutil.copytree(tmp_path / "before", redis.directory, dirs_exist_ok=True)
    redis.start()
    # All its jobs are there again, and it works on; one whose lock was lost comes back when that is noticed, which is
    # looked for every half minute and found at the second look.
    wait_until(lambda: len(world.jobs_in("completed")) == MESSAGES, "the end of all jobs", seconds=120)
    process.send_signal(signal.SIGTERM)
    status, errors = ended(process)
    assert status == 0, errors
    assert check(world, sink, MESSAGES)["sent"] == MESSAGES
    assert len(sink.messages()) == MESSAGES


def test_postgres_is_stopped_at_once(servers: Servers, sink: Sink) -> None:
    with own_postgres() as postgres, running_pgbouncer(postgres.directory.parent, postgres.url) as pooler:
        name = postgres.url.rpartition("/")[2]
        settings = Settings(database_url=postgres.url)
        with new_world(settings, servers.redis_url) as world:
            world.provider(sink.host, sink.port)
            backlog(world, 2 * MESSAGES)
        for database in (postgres.url, f"{pooler}/{name}"):
            before = len(sink.messages())
            process = start(world, "--drain", DATABASE_URL=database)
            sent(sink, before + 10)
            postgres.end(signal.SIGQUIT)
            postgres.start()
            sent(sink, before + MESSAGES // 2)
            process.send_signal(signal.SIGTERM)
            status, errors = ended(process)
            assert status == 0, errors
        with connect(settings) as session:
            world.session = session
            deliver_all(world)
            check(world, sink, 2 * MESSAGES)
