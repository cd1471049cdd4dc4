"""Node's BullMQ with ioredis' client of a cluster, and `deliver`, on the queues of one cluster."""

import json
import signal
import subprocess
from collections.abc import Iterator

import pytest

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.settings.settings import Settings
from tests.cluster import Cluster, running_cluster
from tests.delivery.crash import ended, start
from tests.delivery.sink import Sink
from tests.delivery.world import World, new_world
from tests.interop.node import HERE, node
from tests.support import run_program, wait_until


@pytest.fixture(scope="module")
def cluster(servers: Servers) -> Iterator[Cluster]:
    with running_cluster(servers, "interop") as cluster:
        yield cluster


@pytest.fixture
def world(direct_settings: Settings, cluster: Cluster, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("REDIS_CLUSTER", "1")
    with new_world(direct_settings, cluster.nodes[0].url) as made:
        made.provider(sink.host, sink.port)
        yield made


def _address(world: World, package: str) -> tuple[str, ...]:
    assert world.settings.redis_url
    prefix = f"{world.settings.queue_prefix}:delivery"
    return package, prefix, "send-email", world.settings.redis_url.get_secret_value()


def test_node_sees_what_became_of_its_messages_though_their_slot_moves(
    world: World, package: str, sink: Sink, cluster: Cluster
) -> None:
    policy = {"attempts": 4, "backoff": {"type": "exponential", "delay": 100}}
    jobs = [
        *({"data": world.message(f"d{n}"), "opts": {"jobId": f"plain{n}", "delay": 40 * n}} for n in range(20)),
        {
            "data": world.message("again", emailAddress="drop-rcpt-once@example.com"),
            "opts": {"jobId": "again", **policy},
        },
        {"data": world.message("no", emailAddress="reject-550@example.com"), "opts": {"jobId": "refused", **policy}},
    ]
    deliver = start(world)
    command = ["node", "messages.mjs", *_address(world, package), json.dumps(jobs)]
    with subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as producer:
        wait_until(lambda: len(sink.messages()) >= 3, "the first messages")
        key = f"{world.base}:wait"
        cluster.move(key, cluster.other(key))
        told, errors = producer.communicate(timeout=60)
    deliver.send_signal(signal.SIGTERM)
    assert ended(deliver)[0] == 0
    assert producer.returncode == 0, errors
    *heard, counts = (json.loads(line) for line in told.splitlines())
    states = {each["id"]: each["state"] for each in heard}
    assert states == {**{f"plain{n}": "completed" for n in range(20)}, "again": "completed", "refused": "failed"}
    assert (counts["failed"], counts["waiting"], counts["active"]) == (1, 0, 0)
    assert len(sink.messages()) == 21


def test_a_node_worker_takes_what_enqueue_puts_there(world: World, package: str) -> None:
    assert world.settings.redis_url
    done = run_program(
        *("enqueue", "email", "--to", "ann@example.com", "--body", "Hi", "--org", str(world.organization)),
        *("--count", "3"),
        REDIS_URL=world.settings.redis_url.get_secret_value(),
        MAUNTIC_QUEUE_PREFIX=world.settings.queue_prefix,
    )
    assert done.returncode == 0, done.stderr
    jobs = node("worker.mjs", *_address(world, package), "3")
    assert {each["data"]["emailAddress"] for each in jobs} == {"ann@example.com"}
    assert len(jobs) == 3
