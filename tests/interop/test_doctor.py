"""What Node's BullMQ, current and 5.x, leaves behind for the doctor to find."""

from contextlib import closing
from uuid import uuid4

import pytest

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.ops.doctor.check import Check, Service, Site
from mauntic_jobs.ops.doctor.checks import clocks, queues
from mauntic_jobs.ops.doctor.finding import Finding, FindingSeverity
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping import clock
from tests.interop.node import PACKAGES, node

_QUEUE = "aggregate-hourly"


@pytest.fixture
def here(servers: Servers) -> Settings:
    return Settings(redis_url=servers.redis_url, queue_prefix=f"{{test-{uuid4().hex}}}")


def _speak(here: Settings, package: str, *words: str) -> None:
    assert here.redis_url
    node("scheduler.mjs", package, f"{here.queue_prefix}:analytics", _QUEUE, here.redis_url.get_secret_value(), *words)


def _found(here: Settings, *checks: Check) -> list[Finding]:
    with closing(open_redis(here)) as redis:
        site = Site(here, [JOBS[_QUEUE]], clock.now)
        site.redis = redis
        made = [finding for check in checks if check.needs is Service.REDIS for finding in check.look(site)]
    return [finding for finding in made if finding.severity is not FindingSeverity.OK]


@pytest.mark.parametrize(
    ("package", "kind"),
    # Later versions than 5 have schedulers only.
    [*((package, "scheduler") for package in PACKAGES), ("bullmq-5", "repeatable")],
)
def test_what_node_schedules_is_a_second_clock(here: Settings, package: str, kind: str) -> None:
    if kind == "scheduler":
        _speak(here, package, "upsert", "7 * * * *")
    else:
        _speak(here, package, "add", '{"name": "old", "data": {}, "opts": {"repeat": {"pattern": "7 * * * *"}}}')
    (finding,) = _found(here, *clocks.CHECKS)
    assert finding.severity is FindingSeverity.WARNING
    assert "(7 * * * *) on" in finding.what


@pytest.mark.parametrize("package", PACKAGES)
def test_a_queue_that_node_paused_is_resumed_by_what_is_printed(here: Settings, package: str) -> None:
    jobs = [f'{{"name": "n", "data": {{}}, "opts": {{"jobId": "j{number}"}}}}' for number in range(3)]
    _speak(here, package, "add", jobs[0])
    _speak(here, package, "pause")
    _speak(here, package, "add", jobs[1])
    _speak(here, package, "add", jobs[2])
    (finding,) = _found(here, *queues.CHECKS)
    assert "is paused, with 3 jobs waiting" in finding.what
    _enter(here, finding.to_do)
    assert _found(here, *queues.CHECKS) == []
    with closing(open_redis(here)) as redis:
        assert redis.command("LRANGE", f"{here.queue_prefix}:analytics:{_QUEUE}:wait", 0, -1) == [b"j2", b"j1", b"j0"]


def _enter(here: Settings, line: str) -> None:
    """Do what a line of redis-cli commands does."""
    with closing(open_redis(here)) as redis:
        for each in line.partition(", and")[0].split(" && "):
            program, *words = each.split()
            assert program == "redis-cli"
            times = int(words[1]) if words[0] == "-r" else 1
            for _ in range(times):
                redis.command(*(words[2:] if words[0] == "-r" else words))
