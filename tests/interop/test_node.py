"""Node's own BullMQ, current and 5.x, on the queues that mauntic-jobs writes to."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from mauntic_jobs import clock
from mauntic_jobs.config import Settings
from mauntic_jobs.embedded import locks
from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.stores.bullmq import QueueJob, add_jobs
from mauntic_jobs.stores.redis import open_redis

_HERE = Path(__file__).parent
_PATIENCE_SECONDS = 120


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """Install the packages from the lock file; one worker does it, others wait."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        if os.environ.get("CI"):
            pytest.fail("Node and npm are required in CI")
        pytest.skip("Node and npm are not installed")
    installed, lock = _HERE / "node_modules" / ".package-lock.json", _HERE / "package-lock.json"
    with locks.holding(lock):
        if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
            # Not `npm ci`: it insists on optional packages of platforms for which the lock file has none.
            install = ["npm", "install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund"]
            subprocess.run(install, cwd=_HERE, check=True, capture_output=True)
            installed.touch()
    return _HERE / "node_modules"


@pytest.mark.usefixtures("node_modules")
@pytest.mark.parametrize("package", ["bullmq", "bullmq-5"])
def test_a_worker_in_node_consumes_what_is_published(servers: Servers, package: str) -> None:
    # Node refuses names with a colon; the same keys come of a prefix that ends where ours splits.
    prefix = f"test-{uuid4().hex}"
    jobs = [
        QueueJob("journey:execute-step", str(uuid4()), "execute-step", {"executionId": f"é{number}", "stepId": None})
        for number in range(3)
    ]
    redis = open_redis(Settings(redis_url=servers.redis_url))
    for _ in range(2):  # adding again adds nothing
        add_jobs(redis, prefix, jobs, round(clock.now().timestamp() * 1000))
    consumed = _consume(package, f"{prefix}:journey", "execute-step", servers.redis_url, len(jobs))
    redis.close()
    assert [(job["id"], job["name"], job["data"]) for job in consumed] == [(job.id, job.name, job.data) for job in jobs]
    options = consumed[0]["opts"]
    assert (options["attempts"], options["backoff"]) == (4, {"type": "exponential", "delay": 1000})
    assert (options["removeOnComplete"], options["removeOnFail"]) == ({"age": 3600}, False)


def _consume(package: str, prefix: str, name: str, redis_url: str, count: int) -> list[dict[str, Any]]:
    worker = subprocess.run(
        ["node", "worker.mjs", package, prefix, name, redis_url, str(count)],
        cwd=_HERE,
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE_SECONDS,
    )
    assert worker.returncode == 0, worker.stderr
    return [json.loads(line) for line in worker.stdout.splitlines()]
