"""What happens to messages, and what puts it right."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

from mauntic_jobs.alerts.alert import Cause
from mauntic_jobs.delivery.sending.providers.config import encrypt
from tests.ops import faults
from tests.ops.dead_letters.failing import EMAIL, STEPS, fail_jobs, hours_ago
from tests.ops.incident import Incident, incident
from tests.ops.incident_site import LONG_AGO, Site
from tests.ops.rig import Rig

INCIDENTS: list[Incident] = []

_incident = partial(incident, INCIDENTS)


@_incident(Cause.DEAD_LETTERS, status="dead letters")
def poison_is_on_the_queue(site: Site) -> Iterator[None]:
    site.world.add(*({"organizationId": "none"} for _ in range(21)))
    site.deliver()
    yield
    site.run(f"dlq discard --queue {EMAIL} --yes")


@_incident(Cause.DEAD_LETTERS, status="dead letters")
def the_journey_executor_fails(site: Site) -> Iterator[None]:
    fail_jobs(site.world, [(f"s{n}", {}, "no such step") for n in range(21)], queue=STEPS)
    yield
    site.run(f"dlq retry --queue {STEPS} --yes")


@_incident(Cause.DEAD_LETTERS, status="dead letters")
def a_dead_letter_is_left_lying(site: Site) -> Iterator[None]:
    fail_jobs(site.world, [("a", site.world.message(), "it broke")], at=hours_ago(25))
    yield
    site.run(f"dlq retry {EMAIL}/a")
    site.deliver()


@_incident(Cause.REPUTATION, status="paused until it is resumed")
def a_list_of_addresses_that_do_not_exist(site: Site) -> Iterator[None]:
    site.world.add(*(site.world.message(f"d{n}", emailAddress=f"reject-550-{n}@example.com") for n in range(25)))
    site.sink.behaviour.recipients |= {f"reject-550-{n}": "reject-550" for n in range(25)}
    site.deliver()
    yield
    site.run("deliveries resume --all")


@_incident(Cause.RECEIVERS_DEFERRING)
def a_receiver_limits_what_it_takes(site: Site) -> Iterator[None]:
    site.world.add(*(site.world.message(f"d{n}", emailAddress=f"defer-451+{n}@example.com") for n in range(25)))
    site.world.add(*(site.world.message(f"s{n}", emailAddress=f"ann+{n}@example.com") for n in range(60)))
    site.deliver()
    yield
    site.sink.behaviour.recipients["defer-451"] = ""
    site.deliver()


@_incident(Cause.DELIVERIES_HELD, status="a human must decide")
def nobody_knows_whether_mail_was_sent(site: Site) -> Iterator[None]:
    site.world.add(site.world.message(emailAddress="drop-after-dot@any.example"))
    site.deliver()
    site.deliver()
    site.age()
    yield
    (delivery,) = site.world.ledger()
    site.run(f"deliveries resolve {delivery['delivery_id']} --sent")


@_incident(Cause.DELIVERIES_EXPIRED, status="expired within a day")
def the_consumer_was_down_for_days(site: Site) -> Iterator[None]:
    site.wait_on_the_queue(11, timedelta(days=3))
    site.deliver()
    yield
    site.run("deliveries resend --state expired --since 24h")
    site.deliver()
    assert {row["state"] for row in site.world.ledger()} == {"sent"}


_nobody_sends = partial(_incident, Cause.DELIVERIES_DEFERRED, status="deferred")


def _wait_for_a_provider(site: Site) -> None:
    site.world.add(site.world.message())
    site.deliver()
    site.age()


def _with_the_key_spoiled(site: Site, spoil: Callable[[Rig], None]) -> Iterator[None]:
    before = site.rig.variables["ENCRYPTION_KEY"]
    spoil(site.rig)
    _wait_for_a_provider(site)
    yield
    site.rig.variables["ENCRYPTION_KEY"] = before
    site.deliver()


@_nobody_sends(doctor=("providers", "key"))
def the_key_is_another(site: Site) -> Iterator[None]:
    yield from _with_the_key_spoiled(site, faults.other_key)


@_nobody_sends(doctor=("providers", "key"))
def there_is_no_key(site: Site) -> Iterator[None]:
    yield from _with_the_key_spoiled(site, faults.no_key)


@_nobody_sends(doctor=("providers", "configurations"))
def a_configuration_is_incomplete(site: Site) -> Iterator[None]:
    site.rig.execute("DELETE FROM delivery.provider_configs")
    site.rig.provider("custom_smtp", encrypt({"port": 587}, site.rig.variables["ENCRYPTION_KEY"]))
    _wait_for_a_provider(site)
    yield
    site.provide()
    site.deliver()


@_nobody_sends(doctor=("providers", "hosts"))
def the_mail_server_is_in_a_private_network(site: Site) -> Iterator[None]:
    before = site.rig.variables.pop("MAUNTIC_ALLOWED_NETWORKS")
    _wait_for_a_provider(site)
    yield
    site.rig.variables["MAUNTIC_ALLOWED_NETWORKS"] = before
    site.deliver()


@_nobody_sends()
def the_provider_refuses_the_login(site: Site) -> Iterator[None]:
    site.provide(auth={"user": "news", "pass": "revoked"})
    _wait_for_a_provider(site)
    yield
    site.provide()
    site.deliver()


@_nobody_sends()
def the_provider_is_away(site: Site) -> Iterator[None]:
    site.provide(port=1)
    _wait_for_a_provider(site)
    yield
    site.provide()
    site.deliver()


@_nobody_sends()
def the_only_provider_is_switched_off(site: Site) -> Iterator[None]:
    site.rig.execute("UPDATE delivery.provider_configs SET is_active = false")
    _wait_for_a_provider(site)
    yield
    site.rig.execute("UPDATE delivery.provider_configs SET is_active = true")
    site.deliver()


@_incident(Cause.REDIS_LOST, doctor=("redis", "loss"), status="Redis was emptied")
def redis_has_lost_its_data(site: Site) -> Iterator[None]:
    site.provide(port=1)
    site.world.add(site.world.message())
    site.deliver()
    site.run("monitor run --once")
    site.rig.redis.flushall()
    site.provide()
    yield
    site.run("recover --yes")
    site.deliver()


_nobody_takes = partial(_incident, Cause.CONSUMER_STUCK)


@_nobody_takes(status="nothing takes them")
def no_consumer_runs(site: Site) -> Iterator[None]:
    _waits(site)
    yield
    site.deliver()


@_nobody_takes()
def a_consumer_is_wedged(site: Site) -> Iterator[None]:
    _waits(site)
    site.rig.redis.lpush(f"{site.world.base}:active", "y")
    yield
    site.rig.redis.delete(f"{site.world.base}:active")
    site.deliver()


@_nobody_takes(doctor=("queues", "pause"), status="paused")
def a_queue_is_paused(site: Site) -> Iterator[None]:
    _waits(site)
    site.rig.redis.hset(f"{site.world.base}:meta", "paused", 1)
    yield
    site.rig.redis.hdel(f"{site.world.base}:meta", "paused")
    site.deliver()


def _waits(site: Site) -> None:
    site.wait_on_the_queue(1, LONG_AGO)
