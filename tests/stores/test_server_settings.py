"""Servers, databases and roles that are set otherwise: every transaction sets what it relies on."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import pytest

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ConfigurationError, ExitCode
from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.migrations.upgrade import inspect, upgrade
from mauntic_jobs.runner.request import Status
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.async_link import PostgresLink
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping.catch_up import Which
from tests import server_mode
from tests.pooler import running_pgbouncer
from tests.scheduler.ticking import TABLE, failing, look, ticking
from tests.support import (
    Event,
    add_events,
    contact,
    day,
    organization,
    request,
    role,
    run_on_loop,
    run_program,
    stored_rollups,
    utc,
)

HOSTILE = {
    "timezone": "Asia/Kolkata",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "default_transaction_isolation": "serializable",
    "lock_timeout": "200ms",
    "transaction_timeout": "2s",
}


@pytest.mark.skipif(not server_mode.MODE, reason="for MAUNTIC_TEST_SERVER")
def test_the_server_is_that_of_the_mode(direct_settings: Settings) -> None:
    with connect(direct_settings) as session:
        defaults = b"SELECT name, reset_val FROM pg_settings WHERE name IN ('TimeZone', 'DateStyle')"
        found = {row["name"]: row["reset_val"] for row in session.rows(defaults)}
        assert session.server_version // 10_000 == (15 if server_mode.MODE == "15" else 18)
    assert found == {"TimeZone": "Asia/Kolkata", "DateStyle": "SQL, DMY"}


@pytest.fixture
def hostile(settings: Settings) -> Settings:
    """Return the settings of a database whose sessions are set as no code of ours expects."""
    return made_hostile(settings)


def made_hostile(settings: Settings) -> Settings:
    assert settings.database_url
    name = urlsplit(settings.database_url.get_secret_value()).path[1:]
    with connect(settings) as session:
        known = {row["name"] for row in session.rows(b"SELECT lower(name) AS name FROM pg_settings")}
        for setting, value in HOSTILE.items():
            if setting.lower() in known:
                session.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'".encode())
        # A pooler keeps connections that began before.
        session.rows(
            b"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            b" WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    return settings


@pytest.fixture
def session(hostile: Settings) -> Iterator[Session]:
    with connect(hostile) as opened:
        yield opened


READ = (
    b"SELECT '2026-10-02 03:04:05+00'::timestamptz AS instant, '2026-10-02'::date AS day,"
    b" '2026-10-02 03:04:05+00'::timestamptz::date AS its_day, '26 hours'::interval AS duration,"
    b" current_setting('transaction_isolation') AS isolation"
)
ANSWER = {
    "instant": datetime(2026, 10, 2, 3, 4, 5, tzinfo=UTC),
    "day": datetime(2026, 10, 2, tzinfo=UTC).date(),
    "its_day": datetime(2026, 10, 2, tzinfo=UTC).date(),
    "duration": timedelta(hours=26),
    "isolation": "read committed",
}


def test_what_is_read_does_not_depend_on_the_session(session: Session) -> None:
    with session.transaction():
        inside = session.row(READ)
    for row in (session.row(READ), inside):
        assert row == ANSWER
        assert row["instant"].utcoffset() == timedelta()


def test_what_a_link_reads_does_not_depend_on_the_session(hostile: Settings) -> None:
    async def read() -> list[dict[str, object]]:
        link = PostgresLink(hostile)
        rows = await link.rows(READ, {})
        await link.close()
        return rows

    (row,) = run_on_loop(read())
    assert row == ANSWER
    assert row["instant"].utcoffset() == timedelta()  # type: ignore[attr-defined]


def test_a_transaction_outlasts_the_timeout_of_its_database(session: Session) -> None:
    with session.transaction():
        session.rows(b"SELECT pg_sleep(2.5)")
        assert session.row(b"SELECT 1 AS one") == {"one": 1}


def test_a_slot_that_fails_leaves_its_alert_and_the_other_jobs_run(hostile: Settings) -> None:
    jobs = [ticking("first", "0 * * * *", Which.LATEST, timedelta(hours=2), run=failing, critical=True)]
    jobs.append(ticking("second", "0 * * * *", Which.LATEST, timedelta(hours=2)))
    with connect(hostile) as session:
        session.execute(TABLE)
        look(hostile, utc("2026-10-05T00:30"), *jobs)
        reports, _ = look(hostile, utc("2026-10-05T01:30"), *jobs)
        (alert,) = session.rows(b"SELECT summary FROM mauntic_jobs.alerts")
    assert [report.status for report in reports] == [Status.FAILED, Status.SUCCEEDED]
    assert alert["summary"].startswith("first 2026-10-05T00:00Z/2026-10-05T01:00Z failed")


@pytest.mark.parametrize(
    "command",
    [
        ("schedule", "list"),
        ("runs", "list"),
        ("db", "status"),
        ("status",),
        ("alerts", "list"),
        ("deliveries", "list"),
        ("dlq", "list"),
        ("monitor", "check"),
    ],
)
def test_no_command_ends_in_a_traceback(hostile: Settings, servers: Servers, command: tuple[str, ...]) -> None:
    run_program("aggregate-hourly", "--last", "1d", settings=hostile)
    done = run_program(*command, settings=hostile, REDIS_URL=servers.redis_url)
    assert "Traceback" not in done.stderr
    assert done.returncode in (ExitCode.DONE, ExitCode.FAILED, ExitCode.PARTIAL)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_events_in_local_time_count_to_their_utc_day(direct_settings: Settings, zone: str) -> None:
    at = [utc("2026-11-20T00:00"), utc("2026-11-20T12:00"), utc("2026-11-20T23:59"), utc("2026-11-21T00:00")]
    settings = direct_settings.model_copy(update={"platform_timezone": zone})
    with connect(settings) as session:
        session.copy(
            b"COPY analytics.contact_activity (organization_id, contact_id, event_type, created_at) FROM STDIN",
            [(organization(1), contact(1), "x", each.astimezone(ZoneInfo(zone)).replace(tzinfo=None)) for each in at],
        )
        assert run(request(settings, day("2026-11-20"))).counters["events"] == 3
        assert stored_rollups(session) == {(organization(1), at[0].date(), "x"): (3, 1)}


def test_the_doctor_names_the_zone_that_events_are_in(direct_settings: Settings) -> None:
    local = b"clock_timestamp() AT TIME ZONE 'Asia/Kolkata'"
    assert direct_settings.database_url
    database = urlsplit(direct_settings.database_url.get_secret_value()).path[1:]
    with connect(direct_settings) as session:
        session.execute(
            b"INSERT INTO analytics.contact_activity (organization_id, contact_id, event_type, created_at)"
            b" VALUES (gen_random_uuid(), gen_random_uuid(), 'x', " + local + b")"
        )
        session.execute(f"ALTER DATABASE {database} SET timezone = 'Asia/Kolkata'".encode())
    found = {}
    for zone in ("UTC", "Asia/Kolkata"):
        done = run_program("doctor", "--json", settings=direct_settings, MAUNTIC_PLATFORM_TIMEZONE=zone)
        findings = json.loads(done.stdout)["findings"]
        (found[zone],) = [each for each in findings if each["check"] == "event_times"]
    assert (found["UTC"]["severity"], found["Asia/Kolkata"]["severity"]) == ("error", "ok")
    assert "Asia/Kolkata" in found["UTC"]["what"]
    assert 'platform_timezone = "Asia/Kolkata"' in found["UTC"]["to_do"]


def test_rows_that_a_policy_would_hide_are_an_error(direct_settings: Settings) -> None:
    with connect(direct_settings) as session:
        add_events(
            session, [Event(organization(n), contact(n), "x", datetime(2026, 10, 1, tzinfo=UTC)) for n in (1, 2)]
        )
        policy = f"CREATE POLICY one ON analytics.contact_activity USING (organization_id = '{organization(1)}')"
        session.execute(b"ALTER TABLE analytics.contact_activity ENABLE ROW LEVEL SECURITY")
        session.execute(policy.encode())
    assert direct_settings.database_url
    database = urlsplit(direct_settings.database_url.get_secret_value()).path[1:]
    grants = (
        "GRANT USAGE ON SCHEMA analytics, mauntic_jobs TO {role}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA analytics, mauntic_jobs TO {role}",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA mauntic_jobs TO {role}",
        f"GRANT TEMPORARY ON DATABASE {database} TO {{role}}",
    )
    with role(direct_settings, *grants) as limited:
        done = run_program("aggregate-hourly", "--date", "2026-10-01", settings=limited)
    assert done.returncode == ExitCode.CONFIGURATION
    assert "BYPASSRLS" in done.stderr


# One migration and the first index that is built alone take longer than the database allows.
_SLOW_DDL = b"""
CREATE SEQUENCE public.built;
CREATE FUNCTION public.slow() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF tg_tag = 'CREATE SCHEMA'
        OR current_query() LIKE 'CREATE INDEX CONCURRENTLY%' AND nextval('public.built') = 1
    THEN
        PERFORM pg_sleep(0.5);
    END IF;
END $$;
CREATE EVENT TRIGGER slow ON ddl_command_start WHEN TAG IN ('CREATE SCHEMA', 'CREATE INDEX')
    EXECUTE FUNCTION public.slow();
"""


def test_a_database_is_brought_up_to_date_whatever_it_is_set_to(empty_database: Settings) -> None:
    with connect(empty_database) as session:
        create_platform(session)
    made_hostile(empty_database)
    assert empty_database.database_url
    name = urlsplit(empty_database.database_url.get_secret_value()).path[1:]
    with connect(empty_database) as session:
        session.execute(_SLOW_DDL)
        session.execute(f"ALTER DATABASE {name} SET statement_timeout = '300ms'".encode())
    upgrade(empty_database, lambda _: None)
    with connect(empty_database) as session:
        assert inspect(session).current


def test_an_upgrade_through_a_pool_of_one_says_at_once_what_to_do(
    empty_database: Settings, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mauntic_jobs.migrations.upgrade._POOL_SECONDS", 1.0)
    assert empty_database.database_url
    url = urlsplit(empty_database.database_url.get_secret_value())
    with (
        running_pgbouncer(servers.directory, url.geturl(), name="pool-of-one", pool_size=1) as address,
        pytest.raises(ConfigurationError, match="without the pooler"),
    ):
        upgrade(Settings(database_url=address + url.path), lambda _: None)


def test_suppressions_that_a_policy_would_hide_keep_deliver_from_starting(
    direct_settings: Settings, servers: Servers
) -> None:
    with connect(direct_settings) as session:
        session.execute(b"ALTER TABLE delivery.suppressions ENABLE ROW LEVEL SECURITY")
    schemas = "analytics, content, crm, delivery, journey, mauntic_jobs"
    grants = (
        f"GRANT USAGE ON SCHEMA {schemas} TO {{role}}",
        f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA {schemas} TO {{role}}",
    )
    with role(direct_settings, *grants) as limited:
        done = run_program("deliver", "--drain", settings=limited, REDIS_URL=servers.redis_url)
    assert done.returncode == ExitCode.CONFIGURATION, done.stderr
    assert "suppressions" in done.stderr
    assert "BYPASSRLS" in done.stderr
