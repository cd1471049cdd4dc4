"""A world of each test's own, and the dead letters in it."""

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.ops.dead_letters.store import DeadLetters
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping import clock
from tests.delivery.world import World, new_world


@pytest.fixture
def world(direct_settings: Settings, servers: Servers) -> Iterator[World]:
    with new_world(direct_settings, servers.redis_url) as made:
        yield made


@pytest.fixture
def box(world: World) -> Iterator[Callable[[], DeadLetters]]:
    """Yield what opens the dead letters as they stand now."""
    with closing(open_redis(world.settings)) as redis:
        yield lambda: DeadLetters(world.settings, clock.now(), session=world.session, redis=redis)
