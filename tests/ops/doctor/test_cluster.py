"""`doctor` and `status` on a cluster, whose nodes have different queues."""

from collections.abc import Iterator

import pytest
from redis import Redis

from mauntic_jobs.delivery.queues import base_of
from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.ops.doctor.check import Site
from mauntic_jobs.ops.doctor.checks import platform, redis
from mauntic_jobs.ops.doctor.finding import Finding, FindingSeverity
from mauntic_jobs.ops.doctor.run_checks import examine
from mauntic_jobs.ops.status.read import read_status
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.bullmq.workers import worker_name
from mauntic_jobs.timekeeping import clock
from tests.cluster import Cluster, running_cluster

NODES = 3


@pytest.fixture(scope="module")
def cluster(servers: Servers) -> Iterator[Cluster]:
    with running_cluster(servers, "doctor") as cluster:
        yield cluster


@pytest.fixture
def spread(direct_settings: Settings, cluster: Cluster) -> Settings:
    """Return settings whose queues for email and SMS are on different nodes."""
    tag = next(name for name in map(str, range(20)) if cluster.owner(f"{{{name}}}") is not cluster.owner("{mauntic}"))
    own = {"redis_url": cluster.nodes[0].url, "queue_prefix": "{mauntic}"}
    channels = {"sms": {"prefix": f"{{{tag}}}"}}
    return Settings(**{**direct_settings.model_dump(), **own, "channels": channels})


def _findings(settings: Settings) -> list[Finding]:
    checks = [redis.CONNECTION, *redis.CHECKS, *(each for each in platform.CHECKS if each.name == "workers")]
    return list(examine(Site(settings, [], clock.now), checks))


def test_a_prefix_without_a_hash_tag_is_an_error_that_says_what_to_set(cluster: Cluster) -> None:
    found = [each for each in _findings(Settings(redis_url=cluster.nodes[0].url)) if each.check == "connection"]
    assert [each.severity for each in found] == [FindingSeverity.ERROR]
    assert "Set MAUNTIC_QUEUE_PREFIX={mauntic}" in f"{found[0].what} {found[0].to_do}"


def test_each_node_is_examined(spread: Settings, cluster: Cluster) -> None:
    one = cluster.owner("{mauntic}")
    one.client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        found = _findings(spread)
    finally:
        one.client.config_set("maxmemory-policy", "noeviction")
    errors = [each.what for each in found if each.severity is FindingSeverity.ERROR]
    assert errors == [
        f"the node 127.0.0.1:{one.port}: maxmemory-policy is allkeys-lru: with its memory full it throws jobs away"
    ]
    for check in ("version", "role", "memory", "persistence"):
        assert len([each for each in found if each.check == check]) == NODES


def test_workers_of_other_programs_are_seen_on_each_node(spread: Settings, cluster: Cluster) -> None:
    bases = [base_of(spread, channel) for channel in ("email", "sms")]
    names = [worker_name(base).replace("mauntic-jobs", "other") for base in bases]
    url = [cluster.owner(base).url for base in bases]
    with Redis.from_url(url[0], client_name=names[0]) as first, Redis.from_url(url[1], client_name=names[1]) as second:
        assert first.ping()
        assert second.ping()
        warned = [each.what for each in _findings(spread) if each.check == "workers"]
        status = read_status(spread, [], clock.now())
    assert [any(f"takes messages from {base}" in each for each in warned) for base in bases] == [True, True]
    assert {each.queue.base: each.other_workers for each in status.queues or [] if each.other_workers} == {
        bases[0]: 1,
        bases[1]: 1,
    }
