"""Lengths of the delivery queues."""

import asyncio

import pytest

from mauntic_jobs.delivery.queues import lengths
from mauntic_jobs.stores.redis.async_link import RedisLink
from tests.delivery.world import World


@pytest.mark.parametrize("moved", [True, False])
def test_jobs_of_a_paused_queue_are_not_waiting(world: World, moved: bool) -> None:
    world.add(world.message("d1"), world.message("d2"))
    world.ask("HSET", f"{world.base}:meta", "paused", 1)
    if moved:
        world.ask("RENAME", f"{world.base}:wait", f"{world.base}:paused")

    async def run() -> dict[str, int]:
        redis = RedisLink(world.settings)
        try:
            return await lengths(redis, world.base)
        finally:
            await redis.close()

    counts = asyncio.run(run())
    assert (counts["waiting"], counts["paused"]) == (0, 2)
