"""Stores whose connections end while idle, that refuse writes, or whose replica takes over: no attempt is spent."""

import itertools
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import Popen
from urllib.parse import urlsplit

import pytest

from mauntic_jobs.delivery.ledger.records import Claimed
from mauntic_jobs.delivery.pipeline import pipeline
from mauntic_jobs.delivery.pipeline.conclusion import Withheld, obstacle
from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from tests.delivery.crash import backlog, ended, start
from tests.delivery.own_stores import OwnStore, own_postgres, own_replica
from tests.delivery.proxy import Proxy, running_proxy
from tests.delivery.sink import Sink
from tests.delivery.world import World, new_world
from tests.support import wait_until

MESSAGES = 60
# What held up a connection for half a minute is noticed; a crowded machine is not.
_LONGEST_SILENCE_SECONDS = 15
_END_OTHERS = (
    b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    b" WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@contextmanager
def through_proxy(url: str) -> Iterator[tuple[Proxy, str]]:
    """Put a proxy in front of a store, and yield it with the address to be used instead."""
    place = urlsplit(url)
    assert place.hostname
    assert place.port
    with running_proxy(place.hostname, place.port) as proxy:
        login = f"{place.username or ''}:{place.password or ''}@" if place.password else ""
        yield proxy, place._replace(netloc=f"{login}127.0.0.1:{proxy.port}").geturl()


def stopped(process: "Popen[str]") -> str:
    process.send_signal(signal.SIGTERM)
    status, errors = ended(process)
    assert status == 0, errors
    return errors


def largest_silence(sink: Sink) -> float:
    times = [message.at.timestamp() for message in sink.messages()]
    return max(later - earlier for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize("store", ["postgres", "redis"])
def test_a_message_after_an_idle_connection_has_ended_is_sent_at_once(world: World, sink: Sink, store: str) -> None:
    world.provider(sink.host, sink.port)
    assert world.settings.redis_url
    with through_proxy(world.settings.redis_url.get_secret_value()) as (redis, url):
        process = start(world, REDIS_URL=url)
        world.add(world.message("d0"), ids=["job0"])
        wait_until(sink.messages, "the first message")
        for number in range(1, 6):
            if store == "postgres":
                world.session.execute(_END_OTHERS)
            else:
                redis.reset_all()
            time.sleep(0.3)
            before = time.monotonic()
            world.add(world.message(f"d{number}"), ids=[f"job{number}"])
            while len(sink.messages()) <= number and time.monotonic() - before < 10:
                time.sleep(0.01)
            assert time.monotonic() - before < 2
            wait_until(lambda: world.jobs_in("active") == [], "the end of its job")
            assert world.job(f"job{number}")["atm"] == "1"
        stopped(process)


def test_a_claim_that_took_too_long_spends_no_attempt(
    world: World, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, late = obstacle, iter([True])

    def late_once(claimed: Claimed, asked: float, *, is_stopping: bool) -> Withheld | None:
        return judge(claimed, asked - 60 if next(late, False) else asked, is_stopping=is_stopping)

    monkeypatch.setattr(pipeline, "obstacle", late_once)
    world.provider(sink.host, sink.port)
    world.add(world.message(), ids=["j1"])
    world.deliver()
    assert world.states() == {"d1": "sent"}
    assert world.job("j1")["atm"] == "1"
    assert world.reported == []


@pytest.fixture
def postgres() -> Iterator[OwnStore]:
    with own_postgres() as store:
        yield store


def test_a_database_that_turns_read_only_loses_doubles_and_moves_nothing(
    postgres: OwnStore, servers: Servers, sink: Sink
) -> None:
    settings = Settings(database_url=postgres.url)
    with new_world(settings, servers.redis_url) as world:
        world.provider(sink.host, sink.port)
        sink.behaviour.slow_seconds = 0.1
        backlog(world, MESSAGES, recipient="slow+{}@example.com")
        process = start(world)
        wait_until(lambda: len(sink.messages()) > 5, "messages")
        with connect(settings) as session:
            session.execute_alone(b"ALTER SYSTEM SET default_transaction_read_only = on")
            session.execute(b"SELECT pg_reload_conf()")
            time.sleep(3)
            waiting = len(world.jobs_in("wait"))
            assert waiting > MESSAGES / 2
            assert world.jobs_in("delayed") == []
            assert len(world.jobs_in("active")) + waiting + len(world.jobs_in("completed")) == MESSAGES
            session.execute_alone(b"ALTER SYSTEM RESET default_transaction_read_only")
            session.execute(b"SELECT pg_reload_conf()")
        wait_until(lambda: len(world.jobs_in("completed")) == MESSAGES, "all")
        errors = stopped(process)
        assert set(world.states().values()) == {"sent"}
        assert len(sink.messages()) == MESSAGES
        assert largest_silence(sink) < _LONGEST_SILENCE_SECONDS
        assert len(errors.splitlines()) < 10, errors


def targets(primary: OwnStore, replica: OwnStore) -> str:
    """Return an address for whichever of the two can be written to."""
    first, second = urlsplit(primary.url), urlsplit(replica.url)
    both = f"{first.username}:{first.password}@127.0.0.1:{first.port},127.0.0.1:{second.port}"
    return first._replace(netloc=both, query="target_session_attrs=read-write").geturl()


def promote(replica: OwnStore) -> None:
    shutil.copy("/dev/null", replica.directory / "promote")
    replica.signal(signal.SIGUSR1)


def test_sending_goes_on_with_the_replica_that_was_promoted(postgres: OwnStore, servers: Servers, sink: Sink) -> None:
    with own_replica(postgres) as replica:
        url = targets(postgres, replica)
        with new_world(Settings(database_url=postgres.url), servers.redis_url) as world:
            world.provider(sink.host, sink.port)
            sink.behaviour.slow_seconds = 0.05
            backlog(world, MESSAGES, recipient="slow+{}@example.com")
        processes = [start(world, DATABASE_URL=url) for _ in range(2)]
        wait_until(lambda: len(sink.messages()) > 10, "messages")
        postgres.end(signal.SIGQUIT)
        promote(replica)
        wait_until(lambda: len(world.jobs_in("completed")) == MESSAGES, "all", seconds=30)
        for process in processes:
            stopped(process)
        with connect(Settings(database_url=replica.url)) as session:
            world.session = session
            assert {*world.states().values()} == {"sent"}
        assert len({message.message_id for message in sink.messages()}) == MESSAGES
        assert largest_silence(sink) < _LONGEST_SILENCE_SECONDS


def test_a_promoted_replica_that_lacks_the_last_commits_sends_nothing_again(
    postgres: OwnStore, servers: Servers, sink: Sink
) -> None:
    with own_replica(postgres) as replica:
        url = targets(postgres, replica)
        with new_world(Settings(database_url=postgres.url), servers.redis_url) as world:
            world.provider(sink.host, sink.port)
            messages = [world.message(f"d{number}") for number in range(MESSAGES)]
            world.add(*messages[: MESSAGES // 2])
            world.deliver()
            with connect(Settings(database_url=replica.url)) as follower:
                ledger = b"SELECT count(*) AS rows FROM mauntic_jobs.deliveries WHERE state = 'sent'"
                wait_until(lambda: follower.row(ledger)["rows"] == MESSAGES // 2, "the replica")
                follower.execute_alone(b"ALTER SYSTEM SET primary_conninfo = ''")
                follower.execute(b"SELECT pg_reload_conf()")
                receiver = b"SELECT count(*) AS receivers FROM pg_stat_wal_receiver"
                wait_until(lambda: follower.row(receiver)["receivers"] == 0, "the end of replication")
            process = start(world, DATABASE_URL=url)
            world.add(*messages[MESSAGES // 2 :])
            # Once it delivers, it does not end for a database that is away.
            wait_until(lambda: len(world.jobs_in("completed")) == MESSAGES, "the second half")
        postgres.end(signal.SIGQUIT)
        promote(replica)
        with connect(Settings(database_url=replica.url)) as session:
            world.session = session
            assert len(world.states()) == MESSAGES // 2
            # Its producer repeats all that it has sent of late.
            world.add(*messages, ids=[f"again{number}" for number in range(MESSAGES)])
            wait_until(lambda: len(world.jobs_in("completed")) == 2 * MESSAGES, "all")
            stopped(process)
            assert {*world.states().values()} == {"sent"}
            assert len(world.states()) == len(sink.messages()) == MESSAGES
