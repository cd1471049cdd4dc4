"""`providers limits`: which providers are limited, and what waits for them, as the delivering processes left it."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.installation import Installation
from mauntic_jobs.ops.monitor.conditions.consumers import consumers_stuck
from mauntic_jobs.ops.queues import platform_queues
from mauntic_jobs.ops.status.queues import read_queues
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping import clock
from tests.delivery.sink import Sink, running_sink
from tests.delivery.world import World, new_world
from tests.support import run_program


@pytest.fixture
def world(direct_settings: Settings, servers: Servers) -> Iterator[World]:
    with new_world(direct_settings, servers.redis_url) as made:
        yield made


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    with running_sink(tmp_path) as running:
        yield running


def stuck(world: World) -> list[str]:
    """Return the queues on which, to someone who looks in eleven minutes, nothing is done."""
    later = clock.now() + timedelta(minutes=11)
    with closing(open_redis(world.settings)) as redis:
        return [alert.key for alert in consumers_stuck(Installation(world.settings, later, redis=redis))]


@pytest.mark.parametrize(
    ("number", "words"),
    [("2", "no rate limit; 2 connections a process"), ("0", "no rate limit; no connection is kept")],
)
def test_how_many_connections_each_process_may_have(world: World, sink: Sink, number: str, words: str) -> None:
    provider = world.provider(sink.host, sink.port)
    world.ask("HSET", f"{world.base}:adm:limits", str(world.organization), str(provider))
    world.ask("HSET", f"{world.base}:adm:limit:{provider}", "k", number)
    assert world.settings.redis_url is not None
    redis_url = world.settings.redis_url.get_secret_value()
    variables = {"REDIS_URL": redis_url, "MAUNTIC_QUEUE_PREFIX": world.settings.queue_prefix}
    found = run_program("providers", "limits", "--json", settings=world.settings, **variables)
    assert [each["connections"] for each in json.loads(found.stdout)] == [int(number)]
    assert words in run_program("providers", "limits", "--wide", settings=world.settings, **variables).stdout


def test_connections_that_are_configured_are_shown_before_a_message(world: World, sink: Sink) -> None:
    provider = world.provider(sink.host, sink.port, maxConnections=3)
    assert world.settings.redis_url is not None
    redis_url = world.settings.redis_url.get_secret_value()
    variables = {"REDIS_URL": redis_url, "MAUNTIC_QUEUE_PREFIX": world.settings.queue_prefix}

    def shown() -> list[tuple[str, int]]:
        found = run_program("providers", "limits", "--json", settings=world.settings, **variables)
        return [(each["provider"], each["connections"]) for each in json.loads(found.stdout)]

    assert shown() == [(str(provider), 3)]
    world.ask("HSET", f"{world.base}:adm:limit:{provider}", "k", 2)
    assert shown() == [(str(provider), 2)]
    world.ask("HSET", f"{world.base}:adm:limit:{provider}", "k", 5)
    assert shown() == [(str(provider), 3)]


def test_what_is_limited_and_what_waits(world: World, sink: Sink) -> None:
    provider = world.provider(sink.host, sink.port, rateLimit=1, rateDelta=600_000)
    world.add(*(world.message(f"d{n}") for n in range(5)))
    assert world.deliver(drain_timeout=timedelta(seconds=1)).left
    with closing(open_redis(world.settings)) as redis:
        (queue,) = (each for each in read_queues(redis, platform_queues(world.settings, []), clock.now()) if each.ready)
    assert (queue.prioritized, queue.is_limited) == (4, True)
    assert stuck(world) == []
    redis_url = world.settings.redis_url
    assert redis_url is not None
    variables = {"REDIS_URL": redis_url.get_secret_value(), "MAUNTIC_QUEUE_PREFIX": world.settings.queue_prefix}
    found = run_program("providers", "limits", "--json", settings=world.settings, **variables)
    (limit,) = json.loads(found.stdout)
    assert limit == {
        "organization": str(world.organization),
        "channel": "email",
        "provider": str(provider),
        "configured": limit["rate"],
        "learned": None,
        "account": None,
        "rate": limit["rate"],
        "paused_until": None,
        "daily": None,
        "used": None,
        "full_until": None,
        "connections": None,
        "waiting": 4,
        "seconds": limit["seconds"],
    }
    assert 0.99 < limit["rate"] * 606 < 1.01
    assert 2400 < limit["seconds"] < 2450
    shown = run_program("providers", "limits", "--org", str(world.organization), settings=world.settings, **variables)
    assert "0.00165/s, configured" in shown.stdout
    assert "40m24s" in shown.stdout
    # A turn that has come and that no process takes is a fault again.
    world.ask("ZADD", f"{world.base}:adm:wake", 1, str(provider))
    assert stuck(world) == [world.base]
    # Of other organizations there is nothing to show.
    world.organization = world.contact()
    none = run_program("providers", "limits", "--org", str(world.organization), settings=world.settings, **variables)
    assert (none.stdout, "no provider is limited" in none.stderr) == ("", True)
