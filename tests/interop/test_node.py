"""Node's own BullMQ, current and 5.x, on the queues that mauntic-jobs writes to."""

from uuid import uuid4

import pytest

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.bullmq.enqueue import QueueJob, add_jobs
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping import clock
from tests.interop.node import PACKAGES, node


@pytest.mark.parametrize("package", PACKAGES)
def test_a_worker_in_node_consumes_what_is_published(servers: Servers, package: str) -> None:
    # Node refuses names with a colon; the same keys come of a prefix that ends where ours splits.
    prefix = f"{{test-{uuid4().hex}}}"
    jobs = [
        QueueJob("journey:execute-step", str(uuid4()), "execute-step", {"executionId": f"é{number}", "stepId": None})
        for number in range(3)
    ]
    redis = open_redis(Settings(redis_url=servers.redis_url))
    for _ in range(2):  # adding again adds nothing
        add_jobs(redis, prefix, jobs, round(clock.now().timestamp() * 1000))
    consumed = node("worker.mjs", package, f"{prefix}:journey", "execute-step", servers.redis_url, str(len(jobs)))
    redis.close()
    assert [(job["id"], job["name"], job["data"]) for job in consumed] == [(job.id, job.name, job.data) for job in jobs]
    options = consumed[0]["opts"]
    assert (options["attempts"], options["backoff"]) == (4, {"type": "exponential", "delay": 1000})
    assert (options["removeOnComplete"], options["removeOnFail"]) == ({"age": 3600}, False)
