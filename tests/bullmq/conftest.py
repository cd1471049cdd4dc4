"""A queue of each test's own."""

from uuid import uuid4

import pytest

from mauntic_jobs.bullmq import Queue
from mauntic_jobs.embedded.servers import Servers


@pytest.fixture
def queue(servers: Servers) -> Queue:
    return Queue(servers.redis_url, "analytics:aggregate-hourly", f"{{test-{uuid4().hex}}}")
