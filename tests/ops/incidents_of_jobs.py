"""What happens to jobs, and what puts it right."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial

from mauntic_jobs.alerts.alert import Cause
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.timekeeping import clock
from tests.ops import faults
from tests.ops.incident import Incident, incident
from tests.ops.incident_site import Site
from tests.support import Event, add_events, contact, organization

EVALUATE = "segment-trigger-eval --slot latest"
AGGREGATE, RESET = "aggregate-hourly --slot latest", "warmup-daily-reset --slot latest"

INCIDENTS: list[Incident] = []

_incident = partial(incident, INCIDENTS)
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


@_incident(Cause.JOB_PARTIAL, EVALUATE, ExitCode.PARTIAL, doctor=("redis", "memory"), monitor=ExitCode.UNAVAILABLE)
def redis_is_full(site: Site) -> Iterator[None]:
    site.rig.execute(_SEGMENT, organization=organization(1), criteria=None)
    site.world.contact()
    site.rig.redis.config_set("maxmemory", 1)
    yield
    site.rig.redis.config_set("maxmemory", 0)
    site.run("segment-trigger-eval")


@_reset_fails(ExitCode.UNAVAILABLE, doctor=("redis", "role"), monitor=ExitCode.UNAVAILABLE)
def redis_is_a_replica(site: Site) -> Iterator[None]:
    _warming_domain(site)
    faults.replica(site.rig)
    yield
    site.rig.redis.replicaof("NO", "ONE")
    site.run("warmup-daily-reset")


@_reset_fails(ExitCode.CONFIGURATION, doctor=("redis", "scripts"), monitor=ExitCode.CONFIGURATION)
def redis_refuses_scripts(site: Site) -> Iterator[None]:
    _warming_domain(site)
    before = site.rig.variables["REDIS_URL"]
    faults.no_scripts(site.rig)
    yield
    site.rig.variables["REDIS_URL"] = before
    site.run("warmup-daily-reset")


@_reset_fails(ExitCode.UNAVAILABLE, doctor=("redis", "connection"), monitor=ExitCode.UNAVAILABLE)
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


@_nobody_runs("schedule run", ExitCode.CONFIGURATION, doctor=("postgres", "writing"))
def the_role_is_read_only(site: Site) -> Iterator[None]:
    site.overdue()
    _watched_from_elsewhere(site)
    faults.read_only(site.rig)
    yield
    site.rig.execute("ALTER ROLE {role} RESET default_transaction_read_only")
    site.run("schedule run")


@_nobody_runs("schedule run", ExitCode.UNAVAILABLE, doctor=("postgres", "connection"))
def a_host_does_not_reach_postgres(site: Site) -> Iterator[None]:
    site.overdue()
    _watched_from_elsewhere(site)
    before = site.rig.variables["DATABASE_URL"]
    faults.postgres_away(site.rig)
    yield
    site.rig.variables["DATABASE_URL"] = before
    site.run("schedule run")


@_incident(Cause.CLOCK_SKEW, "schedule run", ExitCode.CONFIGURATION, doctor=("postgres", "clock"))
def a_hosts_clock_is_behind(site: Site) -> Iterator[None]:
    site.run("schedule run")
    site.watcher = {**site.rig.variables, "MAUNTIC_LAUNCHER_ID": "elsewhere"}
    site.ahead = -timedelta(hours=4)
    yield
    site.ahead = timedelta()
    site.run("schedule run")


@_incident(Cause.SECOND_CLOCK, doctor=("clocks", "ledger"), status="a second clock is on")
def two_clocks_are_on(site: Site) -> Iterator[None]:
    for hours, host in enumerate(("one", "two")):
        slot = _slot() - timedelta(hours=hours)
        site.rig.execute(_RUN, status="succeeded", slot=slot, started=clock.now(), host=host)
    yield
    site.rig.execute("UPDATE mauntic_jobs.runs SET started_at = started_at - interval '1 day' WHERE host = 'two'")


@_incident(Cause.UPKEEP_FAILING)
def pruning_fails(site: Site) -> Iterator[None]:
    site.rig.execute(
        "INSERT INTO mauntic_jobs.upkeep (task, slot, claimed_by, started_at, ends_by, finished_at, error, failures)"
        " VALUES ('prune', %(at)s, 'loop on h', %(at)s, %(at)s, %(at)s, 'permission denied', 3)",
        at=clock.now(),
    )
    yield
    site.rig.execute("UPDATE mauntic_jobs.upkeep SET failures = 0")


@_incident(Cause.BACKFILL_STUCK)
def a_backfill_was_killed(site: Site) -> Iterator[None]:
    site.rig.execute(
        "INSERT INTO mauntic_jobs.backfills (job, range_start, range_end, reprocess, newest_first, parallel,"
        " stop_after_failures, worked_at, host, pid) VALUES ('aggregate-hourly', '2026-10-05', '2026-10-06',"
        " ARRAY['all'], false, 1, 5, %(at)s, 'h', 1)",
        at=clock.now() - timedelta(minutes=11),
    )
    site.rig.execute(
        "INSERT INTO mauntic_jobs.backfill_windows (backfill_id, position, window_start, window_end, found)"
        " SELECT id, 1, range_start, range_end, 'missing' FROM mauntic_jobs.backfills"
    )
    yield
    site.run("backfill cancel 1")


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
    SELECT id, %(organization)s, 'action', '{{}}' FROM version
), segment AS (
    INSERT INTO crm.segments (organization_id, name, type, filter_criteria)
    VALUES (%(organization)s, 's', 'dynamic', %(criteria)s::jsonb) RETURNING id
)
INSERT INTO journey.journey_triggers (journey_id, organization_id, type, config)
SELECT journey.id, %(organization)s, 'segment', jsonb_build_object('segmentId', segment.id) FROM journey, segment
"""
