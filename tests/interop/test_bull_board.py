"""Bull Board, as platforms run it, on the queues that mauntic-jobs works on."""

import json
from typing import Any
from uuid import uuid4

import pytest

from mauntic_jobs.errors import ExitCode
from tests.delivery.world import World
from tests.interop.node import PACKAGES, node
from tests.support import run_program

_STATES = ("waiting", "paused", "prioritized", "active", "delayed", "failed", "completed")


def _status(world: World) -> dict[str, Any]:
    assert world.settings.redis_url
    own = {
        "REDIS_URL": world.settings.redis_url.get_secret_value(),
        "MAUNTIC_QUEUE_PREFIX": world.settings.queue_prefix,
    }
    done = run_program("status", "--json", settings=world.settings, **own)
    assert done.returncode == ExitCode.DONE, done.stderr
    (queue,) = [each for each in json.loads(done.stdout)["queues"] if each["queue"] == "delivery:send-email"]
    return dict(queue)


@pytest.mark.parametrize("package", PACKAGES)
def test_bull_board_and_status_count_the_same(world: World, package: str) -> None:
    world.add(
        *(world.message(f"sent{n}") for n in range(3)),
        # Two addresses: what has bounced once is suppressed, and no failure, the second time.
        *(world.message(f"lost{n}", emailAddress=f"reject-550+{n}@example.com") for n in range(2)),
        world.message("deferred", organizationId=str(uuid4())),
    )
    world.deliver()
    world.add(*(world.message(f"new{n}") for n in range(4)))
    before = _status(world)
    assert world.settings.redis_url
    url = world.settings.redis_url.get_secret_value()
    # Node refuses names with a colon; the same keys come of a prefix that ends where ours splits.
    seen, retried = node("bullboard.mjs", package, f"{world.settings.queue_prefix}:delivery", "send-email", url)
    assert {name: before[name] for name in _STATES} == {
        "waiting": 4,
        "paused": 0,
        "prioritized": 0,
        "active": 0,
        "delayed": 1,
        "failed": 2,
        "completed": 3,
    }
    assert {name: seen["counts"].get(name, 0) for name in _STATES} == {name: before[name] for name in _STATES}
    assert (seen["isPaused"], before["is_paused"]) == (False, False)
    assert {job["name"] for job in seen["failed"]} == {"send-email"}
    assert all("550 5.1.1" in job["reason"] for job in seen["failed"])
    after = _status(world)
    assert (after["waiting"], after["failed"]) == (6, 0)
    assert {name: retried["counts"].get(name, 0) for name in _STATES} == {name: after[name] for name in _STATES}
