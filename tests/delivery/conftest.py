"""An organization of each test's own, and a sink for its mail."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.settings.settings import Settings
from tests.delivery.sink import Sink, running_sink
from tests.delivery.world import World, new_world


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    with running_sink(tmp_path) as running:
        yield running


@pytest.fixture
def world(direct_settings: Settings, servers: Servers) -> Iterator[World]:
    with new_world(direct_settings, servers.redis_url) as made:
        yield made
