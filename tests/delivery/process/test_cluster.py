"""Delivery on a real cluster, whose slots move and whose nodes are replaced meanwhile."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from mauntic_jobs.delivery.admission.admission import Admission
from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import UnavailableError
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.redis.async_link import RedisLink
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.warmup.keys import keys
from tests.cluster import Cluster, Node, running_cluster
from tests.delivery.crash import age, backlog, check, counted, deliver_all, ended, start
from tests.delivery.sink import Sink, running_sink
from tests.delivery.world import World, new_world
from tests.support import run_on_loop, run_program, wait_until

MESSAGES = 240


@pytest.fixture(scope="module")
def cluster(servers: Servers) -> Iterator[Cluster]:
    with running_cluster(servers, "deliver", replicas=1) as cluster:
        yield cluster


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    with running_sink(tmp_path) as running:
        yield running


@pytest.fixture
def world(direct_settings: Settings, cluster: Cluster, sink: Sink) -> Iterator[World]:
    with new_world(direct_settings, cluster.nodes[0].url) as made:
        made.provider(sink.host, sink.port)
        yield made


def _run(world: World, *words: str) -> str:
    """Run the program to its end, and return what it prints."""
    assert world.settings.redis_url
    own = {
        "REDIS_URL": world.settings.redis_url.get_secret_value(),
        "MAUNTIC_QUEUE_PREFIX": world.settings.queue_prefix,
    }
    done = run_program(*words, settings=world.settings, **own)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_message_is_sent_another_tried_again_and_a_third_a_dead_letter(world: World, sink: Sink) -> None:
    world.write(
        "INSERT INTO delivery.sending_domains (organization_id, domain, created_at)"
        " VALUES (%(organization)s, 'acme.test', clock_timestamp() AT TIME ZONE 'UTC')"
    )
    world.add(
        world.message("d1"),
        world.message("d2", emailAddress="drop-rcpt-once@example.com"),
        world.message("d3", emailAddress="reject-550@example.com"),
        ids=["j1", "j2", "j3"],
    )
    world.deliver()
    world.hurry()
    world.deliver()
    assert world.states() == {"d1": "sent", "d2": "sent", "d3": "failed"}
    assert len(sink.messages()) == 2
    # Marks are the platform's, and on whichever node their names fall.
    assert [world.ask("GET", world.mark(name)) is not None for name in ("d1", "d2", "d3")] == [True, True, False]
    counter, account = keys(world.organization, "acme.test", in_cluster=True)
    assert int(world.ask("GET", counter)) == 2
    assert world.ask("HLEN", account) == 1
    _run(world, "dlq", "retry", "delivery:send-email/j3", "--yes")
    assert world.jobs_in("wait") == ["j3"]


def test_a_pause_holds_messages_and_a_limit_slows_them(world: World, sink: Sink) -> None:
    backlog(world, 3)
    _run(world, "deliveries", "pause", "--org", str(world.organization), "--why", "test")
    status, errors = ended(start(world, "--drain", "--drain-timeout=1s"))
    assert (status, len(sink.messages())) == (75, 0), errors
    _run(world, "deliveries", "resume", "--all")
    world.write(
        "UPDATE delivery.provider_configs SET config = config || '{\"rateLimit\": 10}'"
        " WHERE organization_id = %(organization)s"
    )
    status, errors = ended(start(world, "--drain"))
    assert (status, len(sink.messages())) == (0, 3), errors
    limits = json.loads(_run(world, "providers", "limits", "--json"))
    assert [round(each["configured"]) for each in limits] == [10]


def _while_delivering(world: World, sink: Sink, *acts: Callable[[], object]) -> str:
    """Deliver a backlog, and act again and again after some of it was sent; return what the process has logged."""
    backlog(world, MESSAGES)
    process = start(world, "--drain", concurrency=8)
    for number, act in enumerate(acts, start=1):
        part = number * MESSAGES // (len(acts) + 2)
        wait_until(lambda: len(sink.messages()) >= part, f"{part} messages")  # noqa: B023 - it is used at once
        act()
    status, errors = ended(process)
    assert status == 0, errors
    assert check(world, sink, MESSAGES) == {"sent": MESSAGES}
    assert counted(world) == (MESSAGES, 0)
    return errors


def test_nothing_is_lost_or_doubled_while_the_slot_moves(world: World, sink: Sink, cluster: Cluster) -> None:
    if not cluster.moves_slots:
        pytest.skip("this server moves slots key by key only")
    key = f"{world.base}:wait"
    move = lambda: cluster.move(key, cluster.other(key))  # noqa: E731 - what is done each time
    assert "redis:" not in _while_delivering(world, sink, move, move, move)


def test_nothing_is_lost_or_doubled_while_its_keys_are_moved_one_by_one(
    world: World, sink: Sink, cluster: Cluster
) -> None:
    key = f"{world.base}:wait"

    def move() -> None:
        nodes = [cluster.owner(key), cluster.other(key)]
        refused = sum(_refused(node) for node in nodes)
        cluster.begin_move_by_keys(key, nodes[1])
        cluster.move_keys(key, nodes[1], 20)
        wait_until(lambda: sum(_refused(node) for node in nodes) > refused, "the process to be refused")
        while cluster.move_keys(key, nodes[1], 20):
            pass
        cluster.end_move(key, nodes[1])

    assert "is moving keys to another node" in _while_delivering(world, sink, move, move)


def _refused(node: Node) -> int:
    """Return how many commands a node has refused because keys of theirs are on another."""
    return int(node.client.info("errorstats").get("errorstat_TRYAGAIN", {}).get("count", 0))


def test_nothing_is_lost_or_doubled_when_a_node_dies_and_its_replica_takes_over(
    direct_settings: Settings, servers: Servers, sink: Sink
) -> None:
    with running_cluster(servers, "dying", replicas=1) as cluster, new_world(direct_settings, "") as world:
        key = f"{world.base}:wait"
        cluster.follow(key)
        # Nothing else than this node is known to the process at first.
        world.settings = world.settings.model_copy(update={"redis_url": SecretStr(cluster.owner(key).url)})
        world.provider(sink.host, sink.port)

        def end_owner() -> None:
            owner = cluster.owner(key)
            # All messages have reached the replica; what was done since the backlog was added may not have.
            owner.ask("SET", f"{world.base}:last", 1)
            assert owner.ask("WAIT", 1, 10_000) == 1
            cluster.end(owner)
            world.settings = world.settings.model_copy(update={"redis_url": SecretStr(cluster.nodes[0].url)})
            cluster.await_owner(key, cluster.nodes[-1])

        assert "redis: works again" in _while_delivering(world, sink, end_owner)


def test_nothing_is_lost_and_what_may_be_doubled_is_named_when_the_process_is_killed(
    world: World, sink: Sink, cluster: Cluster
) -> None:
    key = f"{world.base}:wait"
    backlog(world, MESSAGES)
    for part in (40, 90):
        process = start(world, "--drain")
        wait_until(lambda: len(sink.messages()) >= part, f"{part} messages")  # noqa: B023 - it is used at once
        process.kill()
        ended(process)
        cluster.move(key, cluster.other(key))
        age(world)
    deliver_all(world)
    states = check(world, sink, MESSAGES, kills=2)
    assert counted(world) == (states["sent"], 0)


def test_a_script_of_admission_does_nothing_rather_than_half_of_it_while_keys_are_moved(
    world: World, cluster: Cluster
) -> None:
    organization, key = uuid4(), f"{world.base}:adm:limits"
    world.ask("HSET", key, str(organization), "before")
    target = cluster.other(key)
    cluster.begin_move_by_keys(key, target)

    async def refresh(_: object) -> object:
        raise AssertionError

    async def configure() -> None:
        link = RedisLink(world.settings)
        admission = Admission(world.base, link, refresh)  # type: ignore[arg-type]  # it is not called
        try:
            await admission.report(str(uuid4()), "refused", 5.0, organization, "after")
        finally:
            await link.close()

    with closing(open_redis(world.settings)) as redis:
        with pytest.raises(UnavailableError, match="is moving keys to another node"):
            run_on_loop(asyncio.wait_for(configure(), 20))
        assert redis.command("HGETALL", key) == {str(organization).encode(): b"before"}
        while cluster.move_keys(key, target, 20):
            pass
        cluster.end_move(key, target)
        run_on_loop(asyncio.wait_for(configure(), 20))
