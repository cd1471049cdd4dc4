"""The counters of warm-up on a real cluster, each domain's on a node of its own."""

from contextlib import closing

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.lua import script
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.stores.redis.slots import slot_of
from mauntic_jobs.warmup.keys import dates, keys
from tests.cluster import running_cluster
from tests.jobs.warmup import ACME, TODAY, YESTERDAY, add_domains, changed, outcomes, run_job

DOMAINS = [f"mail{number}.acme.com" for number in range(20)]


def test_a_counter_and_its_account_are_on_one_node() -> None:
    for domain in DOMAINS:
        counter, account = keys(ACME, domain, in_cluster=True)
        assert slot_of(counter) == slot_of(account)
        assert counter == keys(ACME, domain)[0]


def test_counters_on_all_nodes_start_the_day(direct_settings: Settings, servers: Servers) -> None:
    with running_cluster(servers, "warmup") as cluster:
        settings = changed(direct_settings, redis_url=cluster.nodes[0].url, queue_prefix="{mauntic}")
        # What a tenant calls a domain keeps nobody's from being reset.
        with connect(settings) as session:
            add_domains(session, *DOMAINS, "mail}{x.acme.com")
        with closing(open_redis(settings)) as redis:
            assert redis.in_cluster
            names = [keys(ACME, domain, in_cluster=True) for domain in DOMAINS]
            redis.run(script("warmup_count"), [(each, [*dates(YESTERDAY), 5]) for each in names])
            redis.run(script("warmup_count"), [(names[0], [*dates(TODAY), 2])])
            assert outcomes(run_job(settings)) == {"cleared": 19, "kept": 1}
            assert redis.commands([("GET", counter) for counter, _ in names]) == [b"2", *([None] * 19)]
            assert outcomes(run_job(settings)) == {"already": 20}
