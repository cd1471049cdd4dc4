"""Idle SMTP connections: bounded for the process, closed when they are old or their provider is removed."""

import asyncio
import resource
from collections import Counter
from uuid import uuid4

import pytest

from mauntic_jobs.delivery.sending.allowed_networks import Network, parse_networks
from mauntic_jobs.delivery.sending.providers import idle as idle_connections
from mauntic_jobs.delivery.sending.providers.http import HttpClient
from mauntic_jobs.delivery.sending.providers.idle import IdleConnections
from mauntic_jobs.delivery.sending.providers.pool import ProviderPool
from mauntic_jobs.delivery.sending.providers.registry import factories
from mauntic_jobs.delivery.sending.providers.smtp import SmtpProvider
from mauntic_jobs.delivery.sending.smtp.connection import SmtpConnection
from mauntic_jobs.delivery.sending.smtp.login import SmtpServer
from mauntic_jobs.stores.postgres.async_link import PostgresLink
from tests.delivery.crash import ended, start
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.support import run_on_loop

TENANTS, DESCRIPTORS = 150, 100
_NETWORK = Network(parse_networks("127.0.0.0/8"))


def _connection() -> SmtpConnection:
    connection = SmtpConnection(SmtpServer("127.0.0.1", 1), _NETWORK, timeout=1)
    connection.idle_since = asyncio.get_running_loop().time()
    return connection


def test_the_connection_used_last_is_taken_first_and_no_other_owners() -> None:
    async def run() -> None:
        idle, (one, two) = IdleConnections(10), (_connection(), _connection())
        idle.put("a", one)
        idle.put("a", two)
        assert idle.take("b") is None
        assert [idle.take("a"), idle.take("a"), idle.take("a")] == [two, one, None]
        assert len(idle) == 0

    run_on_loop(run())


def test_beyond_the_bound_the_one_idle_for_longest_is_closed_whoever_owns_it() -> None:
    async def run() -> None:
        idle, own = IdleConnections(2), [_connection() for _ in range(3)]
        for owner, connection in zip("abc", own, strict=True):
            idle.put(owner, connection)
        assert len(idle) == 2
        assert [idle.take(owner) for owner in "abc"] == [None, own[1], own[2]]

    run_on_loop(run())


def test_an_owner_keeps_the_connections_used_last_where_it_may_have_fewer() -> None:
    async def run() -> None:
        idle, own = IdleConnections(10), [_connection() for _ in range(4)]
        for owner, connection in zip("aaba", own, strict=True):
            idle.put(owner, connection)
        idle.trim("a", 1)
        idle.trim("c", 0)
        assert [idle.take("a"), idle.take("a"), idle.take("b")] == [own[3], None, own[2]]

    run_on_loop(run())


def test_what_is_idle_for_too_long_is_closed_without_another_message() -> None:
    async def run() -> None:
        idle, old, new = IdleConnections(10), _connection(), _connection()
        idle.put("a", old)
        idle.put("b", new)
        old.idle_since -= idle_connections.IDLE_SECONDS + 1
        assert idle.take("a") is None
        idle.close_stale()
        assert len(idle) == 1
        assert idle.take("b") is new

    run_on_loop(run())


def test_an_owner_that_closes_leaves_nothing_behind() -> None:
    async def run() -> None:
        idle, other = IdleConnections(10), _connection()
        idle.put("a", _connection())
        idle.put("a", _connection())
        idle.put("b", other)
        await idle.close("a")
        assert len(idle) == 1
        assert idle.take("b") is other

    run_on_loop(run())


def test_more_tenants_than_descriptors_are_all_delivered(world: World, sink: Sink) -> None:
    messages = []
    for number in range(TENANTS):
        world.organization = uuid4()
        world.provider(sink.host, sink.port)
        messages.append(world.message(f"d{number}"))
    world.add(*messages)
    process = start(world, "--drain")
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    status, errors = ended(process)
    assert status == 0, errors
    assert Counter(world.states().values()) == {"sent": TENANTS}
    assert len(sink.messages()) == TENANTS
    assert "Too many open files" not in errors


def test_a_provider_that_is_removed_or_replaced_is_closed_and_forgotten(
    world: World, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mauntic_jobs.delivery.sending.providers.pool._CONFIG_SECONDS", 0)
    first = world.provider(sink.host, sink.port)

    async def run() -> None:
        link, idle = PostgresLink(world.settings), IdleConnections()
        made = factories(world.settings, HttpClient(timeout=3), idle)
        directory = ProviderPool(link, made, None, lambda _: None)
        (provider,) = (await directory.providers(world.organization, "email")).usable
        assert isinstance(provider, SmtpProvider)
        idle.put(provider, _connection())
        world.write("DELETE FROM delivery.provider_configs WHERE id = %(id)s", id=first)
        assert (await directory.providers(world.organization, "email")).usable == ()
        assert len(idle) == 0
        assert not directory._made
        await directory.close()
        await link.close()

    run_on_loop(run())
