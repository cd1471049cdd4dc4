"""Jobs that Node's BullMQ, current and 5.x, has failed are read, retried and discarded, and Node sees what was done."""

import json
from collections.abc import Iterator

import pytest

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.settings.settings import Settings
from tests.delivery.world import World, new_world
from tests.interop.node import PACKAGES, node
from tests.ops.dead_letters.failing import STEPS, program


@pytest.fixture
def world(direct_settings: Settings, servers: Servers) -> Iterator[World]:
    with new_world(direct_settings, servers.redis_url) as made:
        yield made


@pytest.mark.parametrize("package", PACKAGES)
def test_jobs_that_node_failed_are_retried_and_discarded(world: World, servers: Servers, package: str) -> None:
    # Node refuses names with a colon; the same keys come of a prefix that ends where ours splits.
    where = (package, f"{world.settings.queue_prefix}:journey", "execute-step", servers.redis_url)
    jobs = [
        {"data": {"n": 1}, "opts": {"jobId": "again", "attempts": 2, "backoff": 1}, "error": "step 17 is gone"},
        {"data": {"n": 2}, "opts": {"jobId": "away", "priority": 3}, "error": "step 18 is gone"},
    ]
    node("failing.mjs", *where, json.dumps(jobs))
    (group,) = json.loads(program(world, "dlq", "list", "--json").stdout)
    assert (group["count"], group["queue"]) == (2, STEPS)
    shown = json.loads(program(world, "dlq", "show", "again", "--json").stdout)
    assert (shown["attempts"], shown["payload"], shown["error"]) == (2, {"n": 1}, "step 17 is gone")
    assert [trace.partition("\n")[0] for trace in shown["traces"]] == ["Error: step 17 is gone"] * 2
    assert shown["options"]["attempts"] == 2
    assert program(world, "dlq", "discard", "away").exit_code == 0
    assert program(world, "dlq", "retry", "again").exit_code == 0
    # A worker of Node's takes it as if it had never been tried, and nothing else is there.
    ((taken),) = node("worker.mjs", *where, "1")
    assert (taken["id"], taken["data"], taken["attempts"]) == ("again", {"n": 1}, 0)
    (left,) = node("scheduler.mjs", *where, "jobs", "failed")
    assert left == []
