"""Both connections to Redis on a real cluster."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ConfigurationError, UnavailableError
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.redis.async_link import RedisLink
from mauntic_jobs.stores.redis.client import RedisScripts, open_redis
from tests.cluster import Cluster, running_cluster
from tests.support import run_on_loop, wait_until

INCREMENT = b"return redis.call('INCR', KEYS[1])"
KEYS = [f"key{number}" for number in range(60)]


@pytest.fixture(scope="module")
def shared_cluster(servers: Servers) -> Iterator[Cluster]:
    with running_cluster(servers, "stores", replicas=1) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Cluster:
    shared_cluster.flush()
    return shared_cluster


@pytest.fixture
def settings(cluster: Cluster) -> Settings:
    return Settings(redis_url=cluster.nodes[0].url, queue_prefix="{t}")


@pytest.fixture
def redis(settings: Settings) -> Iterator[RedisScripts]:
    with closing(open_redis(settings)) as redis:
        yield redis


def test_a_cluster_without_a_hash_tag_is_refused_and_told_what_to_set(cluster: Cluster) -> None:
    url = cluster.nodes[0].url
    untagged = Settings(redis_url=url, channels={"sms": {"prefix": "texts"}})

    async def by_link() -> None:
        async with _link(untagged) as link:
            await link.command("PING")

    for attempt in (lambda: open_redis(untagged), lambda: run_on_loop(by_link())):
        with pytest.raises(ConfigurationError) as raised:
            attempt()
        assert f"{url} is a Redis Cluster" in str(raised.value)
        assert "queue_prefix and channels.sms.prefix have none" in str(raised.value)
        assert "Set MAUNTIC_QUEUE_PREFIX={mauntic}" in str(raised.value)


def test_commands_and_scripts_go_to_the_owners_of_their_keys(cluster: Cluster, redis: RedisScripts) -> None:
    assert redis.run(INCREMENT, [([key], []) for key in KEYS] * 2) == [1] * 60 + [2] * 60
    assert redis.commands([("GET", key) for key in KEYS]) == [b"2"] * 60
    assert redis.command("GET", KEYS[0]) == b"2"
    assert len({cluster.owner(key) for key in KEYS}) == 3
    assert sorted(redis.on_each_node("PING")) == sorted(f"127.0.0.1:{node.port}" for node in cluster.nodes[:3])


def test_a_link_sends_each_command_to_the_owner_of_its_key(cluster: Cluster, settings: Settings) -> None:
    async def run() -> Any:
        async with _link(settings) as link:
            # The first ones go out before it is known that this is a cluster.
            first = await asyncio.gather(*(link.script(INCREMENT, [key], []) for key in KEYS))
            more = await asyncio.gather(*(link.command("GET", key) for key in KEYS), link.command("PING"))
        return first, more

    assert run_on_loop(run()) == ([1] * 60, [b"1"] * 60 + [b"PONG"])
    assert {node.ask("DBSIZE") for node in cluster.nodes[:3]} != {0, 60}


def test_keys_are_followed_when_their_slot_moves(cluster: Cluster, settings: Settings, redis: RedisScripts) -> None:
    key = "{t}:counter"

    async def run() -> None:
        async with _link(settings) as link, _link(settings) as waiting:
            assert await link.script(INCREMENT, [key], []) == 1
            assert redis.run(INCREMENT, [([key], [])]) == [2]
            asked = asyncio.ensure_future(waiting.command("BZPOPMIN", "{t}:marker", 20, patience=20))
            owner = cluster.owner(key)
            await asyncio.to_thread(wait_until, lambda: owner.client.info("clients")["blocked_clients"], "the wait")
            await asyncio.to_thread(cluster.move, key, cluster.other(key))
            # The script is not known to the new owner.
            assert redis.run(INCREMENT, [([key], [])]) == [3]
            assert await link.script(INCREMENT, [key], []) == 4
            await link.command("ZADD", "{t}:marker", 1, "here")
            assert await asked == [b"{t}:marker", b"here", b"1"]

    run_on_loop(run())


def test_keys_that_are_moved_one_by_one_are_found_and_a_script_of_several_waits(
    cluster: Cluster, settings: Settings, redis: RedisScripts
) -> None:
    names = [f"{{t}}:{number}" for number in range(6)]
    redis.commands([("SET", name, 1) for name in names])
    count = b"return #redis.call('MGET', unpack(KEYS))"
    target = cluster.other(names[0])
    cluster.begin_move_by_keys(names[0], target)
    assert cluster.move_keys(names[0], target, 3) == 3

    async def by_link() -> list[Any]:
        async with _link(settings) as link:
            answers = [await link.command("GET", name) for name in names]
            with pytest.raises(UnavailableError, match="is moving keys to another node"):
                await link.script(count, names, [])
        return answers

    assert redis.commands([("GET", name) for name in names]) == run_on_loop(by_link()) == [b"1"] * 6
    with pytest.raises(UnavailableError, match="is moving keys to another node"):
        redis.run(count, [(names, [])])
    assert cluster.move_keys(names[0], target, 10) == 3
    cluster.end_move(names[0], target)
    assert redis.run(count, [(names, [])]) == [6]


def test_a_replica_that_takes_over_is_found_though_the_old_owner_has_ended(servers: Servers) -> None:
    with running_cluster(servers, "failover", replicas=1) as cluster:
        settings = Settings(redis_url=cluster.nodes[0].url, queue_prefix="{t}")
        key = next(name for name in KEYS if cluster.owner(name) is cluster.nodes[0])
        cluster.follow(key)

        async def run(redis: RedisScripts) -> None:
            async with _link(settings) as link:
                assert await link.script(INCREMENT, [key], []) == 1
                assert redis.run(INCREMENT, [([key], [])]) == [2]
                await asyncio.to_thread(cluster.replace, key)
                # Not told by anybody: the address of the settings is gone.
                await asyncio.to_thread(cluster.nodes[0].client.shutdown, nosave=True)
                for ask in (link.script(INCREMENT, [key], []), asyncio.to_thread(redis.run, INCREMENT, [([key], [])])):
                    with pytest.raises(UnavailableError):
                        await ask
                assert await _until_answered(lambda: link.script(INCREMENT, [key], [])) == 3
                assert redis.run(INCREMENT, [([key], [])]) == [4]

        with closing(open_redis(settings)) as redis:
            run_on_loop(run(redis))


@asynccontextmanager
async def _link(settings: Settings) -> AsyncIterator[RedisLink]:
    link = RedisLink(settings)
    try:
        yield link
    finally:
        await link.close()


async def _until_answered(ask: Any) -> Any:
    """Ask again while the link looks for the new owner, as everything that uses it does."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await ask()
            except UnavailableError:
                await asyncio.sleep(0.01)
