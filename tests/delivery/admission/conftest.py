"""A queue in virtual time, for every test of admission."""

from collections.abc import Iterator

import pytest

from mauntic_jobs.embedded.servers import Servers
from tests.delivery.admission.virtual_admission import VirtualAdmission, virtual_admission


@pytest.fixture
def queue(servers: Servers) -> Iterator[VirtualAdmission]:
    with virtual_admission(servers.redis_url) as made:
        yield made
