"""What happens to installations, how it is noticed, and what puts it right."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from mauntic_jobs import clock
from mauntic_jobs.delivery.providers.config import encrypt
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.stores.bullmq import QueueJob, add_jobs
from mauntic_jobs.stores.redis import open_redis
from mauntic_jobs.telemetry.alerts.alert import Cause
from tests.dead_letters.failing import EMAIL, STEPS, fail_jobs, hours_ago
from tests.ops import faults
from tests.ops.incident_site import LONG_AGO, Site
from tests.support import Event, add_events, contact, organization

MONITOR, DEAD_LETTERS = "monitor run --once", "dlq watch --once"
EVALUATE = "segment-trigger-eval --slot latest"
AGGREGATE, RESET = "aggregate-hourly --slot latest", "warmup-daily-reset --slot latest"

# Lets it happen, yields, and puts it right.
Happens = Callable[[Site], Iterator[None]]


class Incident(NamedTuple):
    """What happens, the one alert of it, and who else notices.

    `codes` are the commands that are run regularly, with the exit codes of their first run. `doctor` is the area and
    the check of a finding, `status` are words of another one.
    """

    happens: Happens
    cause: Cause
    codes: Mapping[str, ExitCode]
    doctor: tuple[str, str] | None
    status: str | None


INCIDENTS: list[Incident] = []


def _incident(
    cause: Cause,
    command: str | None = None,
    code: ExitCode = ExitCode.DONE,
    *,
    doctor: tuple[str, str] | None = None,
    status: str | None = None,
    letters: ExitCode = ExitCode.DONE,
) -> Callable[[Happens], Happens]:
    def register(happens: Happens) -> Happens:
        own = {command: code} if command else {}
        codes = {**own, MONITOR: ExitCode.DONE, DEAD_LETTERS: letters}
        INCIDENTS.append(Incident(happens, cause, codes, doctor, status))
        return happens

    return register


_job_fails = partial(_incident, Cause.JOB_FAILED, AGGREGATE, ExitCode.CONFIGURATION, status="failed")


@_job_fails(doctor=("database", "grants"))
def a_grant_is_missing(site: Site) -> Iterator[None]:
    site.rig.execute("REVOKE INSERT ON analytics.event_aggregates FROM {role}")
    yield
    site.rig.execute("GRANT INSERT ON analytics.event_aggregates TO {role}")
    site.run("aggregate-hourly")


@_job_fails(doctor=("database", "platform"))
def a_table_was_renamed(site: Site) -> Iterator[None]:
    site.rig.execute("ALTER TABLE analytics.contact_activity RENAME TO activity")
    yield
    site.rig.execute("ALTER TABLE analytics.activity RENAME TO contact_activity")
    site.run("dlq retry run/1")


@_job_fails(doctor=("database", "indexes"))
def a_unique_key_was_dropped(site: Site) -> Iterator[None]:
    _event(site)
    faults.key_missing(site.rig)
    yield
    site.run("db upgrade", DATABASE_URL=site.superuser)
    site.run("aggregate-hourly")


_reset_fails = partial(_incident, Cause.JOB_FAILED, RESET, status="failed")


@_incident(Cause.JOB_PARTIAL, EVALUATE, ExitCode.PARTIAL, doctor=("redis", "memory"))
def redis_is_full(site: Site) -> Iterator[None]:
    site.rig.execute(_SEGMENT, organization=organization(1), criteria=None)
    site.world.contact()
    site.rig.redis.config_set("maxmemory", 1)
    yield
    site.rig.redis.config_set("maxmemory", 0)
    site.run("segment-trigger-eval")


@_reset_fails(ExitCode.UNAVAILABLE, doctor=("redis", "role"))
def redis_is_a_replica(site: Site) -> Iterator[None]:
    _warming_domain(site)
    faults.replica(site.rig)
    yield
    site.rig.redis.replicaof("NO", "ONE")
    site.run("warmup-daily-reset")


@_reset_fails(ExitCode.CONFIGURATION, doctor=("redis", "scripts"))
def redis_refuses_scripts(site: Site) -> Iterator[None]:
    _warming_domain(site)
    before = site.rig.variables["REDIS_URL"]
    faults.no_scripts(site.rig)
    yield
    site.rig.variables["REDIS_URL"] = before
    site.run("warmup-daily-reset")


@_reset_fails(ExitCode.UNAVAILABLE, doctor=("redis", "connection"), letters=ExitCode.UNAVAILABLE)
def redis_is_away(site: Site) -> Iterator[None]:
    before = site.rig.variables["REDIS_URL"]
    faults.redis_away(site.rig)
    yield
    site.rig.variables["REDIS_URL"] = before
    site.run("warmup-daily-reset")


@_incident(Cause.JOB_PARTIAL, EVALUATE, ExitCode.PARTIAL, status="partial")
def a_segment_cannot_be_read(site: Site) -> Iterator[None]:
    site.rig.execute(_SEGMENT, organization=organization(1), criteria='{"operator": "xor", "conditions": [{}]}')
    yield
    site.rig.execute("UPDATE crm.segments SET filter_criteria = NULL, type = 'static'")
    site.run("segment-trigger-eval")


@_incident(Cause.RESULT_IMPLAUSIBLE, AGGREGATE, ExitCode.PARTIAL)
def events_no_longer_come_in(site: Site) -> Iterator[None]:
    site.rig.execute(_WEEKS, at=_slot())
    yield
    _event(site)
    site.run("aggregate-hourly")


@_incident(Cause.RUN_TOO_LONG, status="runs for")
def a_run_hangs(site: Site) -> Iterator[None]:
    site.rig.execute(_WEEKS, at=_slot())
    site.rig.execute(_RUN, status="running", slot=_slot(), started=clock.now() - timedelta(hours=1), host="h")
    yield
    site.rig.execute("UPDATE mauntic_jobs.runs SET status = 'succeeded', finished_at = started_at")


_nobody_runs = partial(_incident, Cause.SLOT_MISSED, status="overdue")


@_nobody_runs()
def cron_is_gone(site: Site) -> Iterator[None]:
    site.overdue()
    yield
    site.run("schedule run")


@_nobody_runs("schedule run", ExitCode.CONFIGURATION, doctor=("postgres", "writing"), letters=ExitCode.CONFIGURATION)
def the_role_is_read_only(site: Site) -> Iterator[None]:
    site.overdue()
    _watched_from_elsewhere(site)
    faults.read_only(site.rig)
    yield
    site.rig.execute("ALTER ROLE {role} RESET default_transaction_read_only")
    site.run("schedule run")


@_nobody_runs("schedule run", ExitCode.UNAVAILABLE, doctor=("postgres", "connection"), letters=ExitCode.UNAVAILABLE)
def a_host_does_not_reach_postgres(site: Site) -> Iterator[None]:
    site.overdue()
    _watched_from_elsewhere(site)
    before = site.rig.variables["DATABASE_URL"]
    faults.postgres_away(site.rig)
    yield
    site.rig.variables["DATABASE_URL"] = before
    site.run("schedule run")


@_nobody_runs("schedule run", doctor=("postgres", "clock"))
def a_hosts_clock_is_behind(site: Site) -> Iterator[None]:
    site.run("schedule run")
    site.rig.execute(
        "UPDATE mauntic_jobs.schedules SET settled = settled - interval '3 hours' WHERE job = 'aggregate-hourly'"
    )
    site.ahead = -timedelta(hours=4)
    yield
    site.ahead = timedelta()
    site.run("schedule run")


@_incident(Cause.DEAD_LETTERS, status="dead letters", letters=ExitCode.FAILED)
def poison_is_on_the_queue(site: Site) -> Iterator[None]:
    site.world.add(*({"organizationId": "none"} for _ in range(21)))
    site.deliver()
    yield
    site.run(f"dlq discard --queue {EMAIL} --yes")


@_incident(Cause.DEAD_LETTERS, status="dead letters", letters=ExitCode.FAILED)
def the_journey_executor_fails(site: Site) -> Iterator[None]:
    fail_jobs(site.world, [(f"s{n}", {}, "no such step") for n in range(21)], queue=STEPS)
    yield
    site.run(f"dlq retry --queue {STEPS} --yes")


@_incident(Cause.DEAD_LETTERS, status="dead letters", letters=ExitCode.FAILED)
def a_dead_letter_is_left_lying(site: Site) -> Iterator[None]:
    fail_jobs(site.world, [("a", site.world.message(), "it broke")], at=hours_ago(25))
    yield
    site.run(f"dlq retry {EMAIL}/a")
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


_nobody_sends = partial(_incident, Cause.DELIVERIES_DEFERRED, status="deferred")


def _wait_for_a_provider(site: Site) -> None:
    site.world.add(site.world.message())
    site.deliver()
    site.age()


@_nobody_sends(doctor=("providers", "key"))
def the_key_is_another(site: Site) -> Iterator[None]:
    before = site.rig.variables["ENCRYPTION_KEY"]
    faults.other_key(site.rig)
    _wait_for_a_provider(site)
    yield
    site.rig.variables["ENCRYPTION_KEY"] = before
    site.deliver()


@_nobody_sends(doctor=("providers", "key"))
def there_is_no_key(site: Site) -> Iterator[None]:
    before = site.rig.variables["ENCRYPTION_KEY"]
    faults.no_key(site.rig)
    _wait_for_a_provider(site)
    yield
    site.rig.variables["ENCRYPTION_KEY"] = before
    site.deliver()


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
    site.sink.behaviour.auth_reply = "535 5.7.8 bad credentials"
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


@_nobody_sends()
def redis_has_lost_its_data(site: Site) -> Iterator[None]:
    site.provide(port=1)
    _wait_for_a_provider(site)
    site.rig.redis.flushall()
    site.provide()
    site.deliver()
    yield
    site.run("deliveries reconcile")
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


@_incident(Cause.SECOND_CLOCK, doctor=("clocks", "ledger"), status="a second clock is on")
def two_clocks_are_on(site: Site) -> Iterator[None]:
    for hours, host in enumerate(("one", "two")):
        slot = _slot() - timedelta(hours=hours)
        site.rig.execute(_RUN, status="succeeded", slot=slot, started=clock.now(), host=host)
    yield
    site.rig.execute("UPDATE mauntic_jobs.runs SET started_at = started_at - interval '1 day' WHERE host = 'two'")


def _watched_from_elsewhere(site: Site) -> None:
    site.watcher = {**site.rig.variables, "DATABASE_URL": site.superuser}


def _event(site: Site) -> None:
    """Let something have happened before the latest slot."""
    add_events(site.rig.session, [Event(organization(1), contact(1), "email_sent", _slot() - timedelta(minutes=1))])


def _warming_domain(site: Site) -> None:
    site.rig.execute(
        "INSERT INTO delivery.sending_domains (organization_id, domain, created_at) VALUES (%(owner)s, 'acme.test',"
        " %(at)s::timestamptz AT TIME ZONE 'UTC')",
        owner=organization(1),
        at=clock.now() - timedelta(days=3),
    )
    site.rig.redis.set(f"warmup:daily:{organization(1)}:acme.test", 50)


def _waits(site: Site) -> None:
    """Put a message on the queue, half an hour ago."""
    added = round((clock.now() - LONG_AGO).timestamp() * 1000)
    job = QueueJob(EMAIL, "waiting", "send-email", site.world.message())
    with closing(open_redis(site.world.settings)) as redis:
        add_jobs(redis, site.world.settings.queue_prefix, [job], added)


def _slot() -> datetime:
    return clock.now().replace(minute=0, second=0, microsecond=0)


_COLUMNS = (
    "INSERT INTO mauntic_jobs.runs (job, slot, claims_slot, window_start, window_end, launcher, launcher_id, host, pid,"
    " version, fencing_token, status, started_at, finished_at, counters) "
)
_RUN = _COLUMNS + (
    "SELECT 'aggregate-hourly', %(slot)s::timestamptz, true, %(slot)s::timestamptz - interval '1 hour',"
    " %(slot)s::timestamptz, 'schedule', '', %(host)s, 1, '0', nextval('mauntic_jobs.fencing_tokens'), %(status)s,"
    " %(started)s::timestamptz,"
    " CASE WHEN %(status)s <> 'running' THEN %(started)s::timestamptz END, '{{}}'"
)
# What the same slot counted in the last eight weeks.
_WEEKS = _COLUMNS + (
    "SELECT 'aggregate-hourly', slot, true, slot - interval '1 hour', slot, 'schedule', '', 'h', 1, '0',"
    " nextval('mauntic_jobs.fencing_tokens'), 'succeeded', slot, slot + interval '2 seconds', '{{\"events\": 10}}'"
    " FROM (SELECT %(at)s::timestamptz - week * interval '7 days' AS slot FROM generate_series(1, 8) AS week) AS weeks"
)
_SEGMENT = """
WITH journey AS (
    INSERT INTO journey.journeys (organization_id, name, status) VALUES (%(organization)s, 'j', 'active') RETURNING id
), version AS (
    INSERT INTO journey.journey_versions (journey_id, organization_id, version_number, definition, published_at)
    SELECT id, %(organization)s, 1, '{{}}', '2026-01-01' FROM journey RETURNING id, journey_id
), step AS (
    INSERT INTO journey.journey_steps (journey_version_id, organization_id, type, config)
    SELECT id, %(organization)s, 'trigger', '{{}}' FROM version
), segment AS (
    INSERT INTO crm.segments (organization_id, name, type, filter_criteria)
    VALUES (%(organization)s, 's', 'dynamic', %(criteria)s::jsonb) RETURNING id
)
INSERT INTO journey.journey_triggers (journey_id, organization_id, type, config)
SELECT journey.id, %(organization)s, 'segment', jsonb_build_object('segmentId', segment.id) FROM journey, segment
"""
