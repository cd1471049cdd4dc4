"""A pgbouncer that dies, pauses or has no connection left while messages are under way."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest

from mauntic_jobs.embedded.servers import Servers
from tests.delivery.crash import backlog, start
from tests.delivery.faults.test_store_outages import stopped
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.pooler import Pooler, own_pgbouncer
from tests.support import wait_until

MESSAGES = 60
_CLIENTS = 12


@pytest.fixture
def pooler(world: World, servers: Servers) -> Iterator[Pooler]:
    assert world.settings.database_url
    url = world.settings.database_url.get_secret_value()
    with own_pgbouncer(servers.directory, url, name=f"pooler-{uuid4().hex}", max_clients=_CLIENTS) as running:
        yield running


def through(world: World, pooler: Pooler) -> str:
    assert world.settings.database_url
    return pooler.address + urlsplit(world.settings.database_url.get_secret_value()).path


def delivers(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    sink.behaviour.slow_seconds = 0.05
    backlog(world, MESSAGES, recipient="slow+{}@example.com")


def check(world: World, sink: Sink) -> None:
    """Check that all were sent once, and at their first attempt."""
    wait_until(lambda: len(world.jobs_in("completed")) == MESSAGES, "all")
    assert set(world.states().values()) == {"sent"}
    assert len({message.message_id for message in sink.messages()}) == MESSAGES
    doubled = {row["message_id"] for row in world.ledger() if row["possible_duplicate"]}
    assert len(sink.messages()) <= MESSAGES + len(doubled)
    assert {world.job(name)["atm"] for name in world.jobs_in("completed")} == {"1"}


@pytest.mark.parametrize("fault", ["killed", "paused", "exhausted"])
def test_a_pooler_that_fails_for_a_while_holds_up_deliveries_and_no_more(
    world: World, sink: Sink, pooler: Pooler, fault: str
) -> None:
    delivers(world, sink)
    url = through(world, pooler)
    process = start(world, DATABASE_URL=url)
    wait_until(lambda: len(sink.messages()) > 5, "messages")
    with ExitStack() as held:
        if fault == "paused":
            pooler.pause()
        else:
            pooler.end()
        if fault == "exhausted":
            # It must not have the connections before the others.
            process.send_signal(signal.SIGSTOP)
            pooler.start()
            with suppress(psycopg.OperationalError):
                for _ in range(_CLIENTS):
                    held.enter_context(psycopg.connect(url))
            process.send_signal(signal.SIGCONT)
        time.sleep(2)
        assert len(world.jobs_in("completed")) < MESSAGES
    if fault == "paused":
        pooler.resume()
    if fault == "killed":
        pooler.start()
    check(world, sink)
    stopped(process)
