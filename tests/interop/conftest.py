"""Node with both versions of BullMQ, and an organization whose emails arrive at a sink."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.settings.settings import Settings
from tests.delivery.sink import Sink, running_sink
from tests.delivery.world import World, new_world
from tests.interop.node import PACKAGES, install


@pytest.fixture(scope="session", autouse=True)
def _installed() -> None:
    install()


@pytest.fixture(params=PACKAGES)
def package(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    with running_sink(tmp_path) as running:
        yield running


@pytest.fixture
def world(direct_settings: Settings, servers: Servers, sink: Sink) -> Iterator[World]:
    with new_world(direct_settings, servers.redis_url) as made:
        made.provider(sink.host, sink.port)
        yield made
