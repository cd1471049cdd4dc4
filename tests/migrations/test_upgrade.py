from collections import defaultdict
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from mauntic_jobs.errors import ConfigurationError, ExitCode, JobFailedError, LockedError, RefusedError
from mauntic_jobs.migrations.files import Migration, migrations
from mauntic_jobs.migrations.indexes import INDEXES, IndexState
from mauntic_jobs.migrations.platform import SCHEMAS, create_platform
from mauntic_jobs.migrations.upgrade import inspect, upgrade
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from tests.support import psql, role, run_program

DESCRIBE = (
    b"""
    SELECT table_schema, table_name, column_name, ordinal_position, data_type, is_nullable, column_default,
           is_identity, identity_generation
    FROM information_schema.columns
    WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2, 3
    """,
    b"SELECT schemaname, indexname, indexdef FROM pg_indexes WHERE schemaname <> 'pg_catalog' ORDER BY 1, 2",
    b"""
    SELECT conrelid::regclass::text AS name, conname, pg_get_constraintdef(oid) AS definition
    FROM pg_constraint WHERE conrelid <> 0 AND connamespace <> 'pg_catalog'::regnamespace ORDER BY 1, 2
    """,
    b"""
    SELECT relnamespace::regnamespace::text AS name, relname, relkind::text AS kind, reloptions
    FROM pg_class WHERE relnamespace::regnamespace::text IN ('mauntic_jobs', 'analytics') ORDER BY 1, 2
    """,
    b"""
    SELECT objoid::regclass::text AS name, objsubid, description
    FROM pg_description WHERE classoid = 'pg_class'::regclass AND objoid >= 16384 ORDER BY 1, 2
    """,
)
_SCHEMAS = {"schemas": list(SCHEMAS)}
RECORD = b"SELECT version, name, checksum FROM mauntic_jobs.migrations ORDER BY version"
HAS_SCHEMA = b"SELECT to_regnamespace('mauntic_jobs') IS NOT NULL AS present"


@pytest.fixture
def fresh(empty_database: Settings) -> Settings:
    """Return the settings of a database with the platform's tables only."""
    with connect(empty_database) as session:
        create_platform(session)
    return empty_database


@pytest.fixture
def twin(fresh: Settings) -> Iterator[Settings]:
    """Yield the settings of a copy of the fresh database."""
    assert fresh.database_url
    url = urlsplit(fresh.database_url.get_secret_value())
    name = f"{url.path[1:]}_twin"
    with connect(Settings(database_url=url._replace(path="/postgres").geturl())) as session:
        session.execute_alone(f"CREATE DATABASE {name} TEMPLATE {url.path[1:]}".encode())
        yield Settings(database_url=url._replace(path=f"/{name}").geturl())
        session.execute_alone(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(params=["direct", "pgbouncer"])
def reached(request: pytest.FixtureRequest, fresh: Settings) -> Settings:
    """Return the settings of the fresh database, reached directly and again through pgbouncer."""
    if request.param == "direct":
        return fresh
    address = request.getfixturevalue("pgbouncer")
    assert fresh.database_url
    return Settings(database_url=address + urlsplit(fresh.database_url.get_secret_value()).path)


def _schema(settings: Settings) -> list[list[dict[str, Any]]]:
    with connect(settings) as session:
        return [session.rows(query) for query in DESCRIBE]


def _silent(_message: str) -> None:
    return None


def _with_another(monkeypatch: pytest.MonkeyPatch, sql: str) -> None:
    every = (*migrations(), Migration(9000, "another", sql))
    monkeypatch.setattr("mauntic_jobs.migrations.upgrade.migrations", lambda: every)


def test_a_fresh_database_is_brought_up_to_date(reached: Settings) -> None:
    told: list[str] = []
    with connect(reached) as session:
        before = inspect(session)
        assert (before.applied, before.pending, before.current) == ((), migrations(), False)
        assert upgrade(reached, told.append) == {}
        after = inspect(session)
        recorded = session.rows(RECORD)
    assert (after.applied, after.pending, after.current) == (migrations(), (), True)
    assert set(after.indexes.values()) == {IndexState.PRESENT}
    assert [(row["version"], row["checksum"]) for row in recorded] == [
        (migration.version, migration.checksum) for migration in migrations()
    ]
    assert told == [f"applied {migration}" for migration in migrations()] + [
        f"built {index.name} on {index.table}" for index in after.indexes
    ]


def test_the_migrations_are_numbered_from_one_without_a_gap() -> None:
    assert [migration.version for migration in migrations()] == list(range(1, len(migrations()) + 1))


def test_a_second_upgrade_changes_nothing(reached: Settings) -> None:
    upgrade(reached, _silent)
    objects = b"SELECT oid, xmin, relname, relfilenode FROM pg_class WHERE oid >= 16384 ORDER BY oid"
    records = b"SELECT xmin, * FROM mauntic_jobs.migrations"
    told: list[str] = []
    with connect(reached) as session:
        before = session.rows(objects), session.rows(records)
        assert upgrade(reached, told.append) == {}
        assert (session.rows(objects), session.rows(records)) == before
    assert told == []


def test_the_script_of_a_dry_run_makes_the_same_schema_and_the_dry_run_none(fresh: Settings, twin: Settings) -> None:
    before = _schema(fresh)
    dry_run = run_program("db", "upgrade", "--dry-run", settings=fresh)
    assert (dry_run.returncode, dry_run.stderr) == (ExitCode.DONE, "")
    assert _schema(fresh) == before
    upgrade(fresh, _silent)
    psql(twin, dry_run.stdout)
    assert _schema(twin) == _schema(fresh)
    with connect(fresh) as one, connect(twin) as other:
        assert other.rows(RECORD) == one.rows(RECORD)
        assert inspect(other).current


def test_a_dry_run_of_what_is_up_to_date_is_an_empty_script(direct_settings: Settings) -> None:
    dry_run = run_program("db", "upgrade", "--dry-run", settings=direct_settings)
    assert (dry_run.returncode, dry_run.stdout, dry_run.stderr) == (ExitCode.DONE, "-- Nothing to do.\n", "")


def test_the_status_tells_how_far_a_database_is(fresh: Settings) -> None:
    before = run_program("db", "status", settings=fresh)
    assert before.returncode == ExitCode.PARTIAL
    assert before.stdout.count("pending") == len(migrations())
    assert before.stdout.count("missing") == len(INDEXES)
    assert "Run `mauntic-jobs db upgrade`." in before.stderr
    upgraded = run_program("db", "upgrade", settings=fresh)
    assert (upgraded.returncode, upgraded.stdout) == (ExitCode.DONE, "The database is up to date.\n")
    after = run_program("db", "status", settings=fresh)
    assert (after.returncode, after.stderr) == (ExitCode.DONE, "")
    assert "pending" not in after.stdout


def test_tables_that_are_missing_are_named_and_nothing_is_made(fresh: Settings) -> None:
    with connect(fresh) as session:
        session.execute(b"DROP TABLE analytics.event_aggregates")
        with pytest.raises(ConfigurationError, match=r": analytics\.event_aggregates missing.*Check DATABASE_URL"):
            inspect(session)
        with pytest.raises(ConfigurationError) as raised:
            upgrade(fresh, _silent)
        assert raised.value.exit_code == ExitCode.CONFIGURATION
        assert session.row(HAS_SCHEMA) == {"present": False}


def test_a_database_of_something_else_is_left_alone(empty_database: Settings) -> None:
    with pytest.raises(ConfigurationError) as raised:
        upgrade(empty_database, _silent)
    for index in INDEXES:
        assert index.table in str(raised.value)
    assert "db init-platform" in str(raised.value)
    with connect(empty_database) as session:
        assert session.row(HAS_SCHEMA) == {"present": False}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            b"UPDATE mauntic_jobs.migrations SET checksum = 'another' WHERE version = 1",
            "Migration 0001 runs was applied from another text",
        ),
        (
            b"INSERT INTO mauntic_jobs.migrations VALUES (9001, 'of_tomorrow', 'x')",
            "migration 9001 of_tomorrow, which this version of mauntic-jobs does not know",
        ),
    ],
    ids=["edited", "newer"],
)
def test_migrations_that_are_not_these_are_refused(
    settings: Settings, session: Session, change: bytes, message: str
) -> None:
    session.execute(change)
    session.execute(b"DROP INDEX analytics.mauntic_jobs_event_aggregates_key")
    before = _schema(settings)
    with pytest.raises(RefusedError, match=message) as raised:
        upgrade(settings, _silent)
    assert raised.value.exit_code == ExitCode.REFUSED
    with pytest.raises(RefusedError, match=message):
        inspect(session)
    assert _schema(settings) == before


def test_one_of_two_upgrades_at_once_tries_later(reached: Settings) -> None:
    refusals = []

    def upgrade_too(_message: str) -> None:
        with pytest.raises(LockedError, match="Another `db upgrade` is under way") as raised:
            upgrade(reached, _silent)
        refusals.append(raised.value.exit_code)

    upgrade(reached, upgrade_too)
    assert set(refusals) == {ExitCode.TRY_LATER}
    assert upgrade(reached, _silent) == {}


def test_a_migration_that_fails_leaves_neither_its_objects_nor_its_record(
    reached: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_another(monkeypatch, "CREATE TABLE mauntic_jobs.another (); SELECT 1 / 0;")
    with pytest.raises(JobFailedError, match="division by zero"):
        upgrade(reached, _silent)
    with connect(reached) as session:
        assert len(session.rows(RECORD)) == len(migrations())
        assert session.row(b"SELECT to_regclass('mauntic_jobs.another') AS another") == {"another": None}
    _with_another(monkeypatch, "CREATE TABLE mauntic_jobs.another ();")
    told: list[str] = []
    upgrade(reached, told.append)
    assert [line for line in told if line.startswith("applied")] == ["applied 9000 another"]


def test_an_upgrade_that_was_stopped_goes_on_where_it_was(fresh: Settings) -> None:
    def stop(message: str) -> None:
        if message.startswith("built"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upgrade(fresh, stop)
    with connect(fresh) as session:
        built, *others = inspect(session).indexes.values()
        assert (built, set(others)) == (IndexState.PRESENT, {IndexState.MISSING})
        told: list[str] = []
        upgrade(fresh, told.append)
        assert len(told) == len(others)
        assert inspect(session).current


def test_a_server_without_what_is_needed_is_refused(direct_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect(direct_settings) as session:
        monkeypatch.setattr(Session, "server_version", 140_018)
        with pytest.raises(ConfigurationError, match="Postgres 14 is too old: mauntic-jobs needs 15 or later"):
            inspect(session)
        monkeypatch.setattr(Session, "server_version", 150_000)
        assert inspect(session).current


def test_the_platform_is_only_made_where_there_is_none_of_it(empty_database: Settings) -> None:
    with connect(empty_database) as session:
        for schema in SCHEMAS:
            session.execute(f"CREATE SCHEMA {schema}".encode())
            with pytest.raises(RefusedError, match=f"already has {schema}: ") as raised:
                create_platform(session)
            assert raised.value.exit_code == ExitCode.REFUSED
            existing = session.rows(b"SELECT nspname FROM pg_namespace WHERE nspname = ANY (%(schemas)s)", _SCHEMAS)
            assert existing == [{"nspname": schema}]
            session.execute(f"DROP SCHEMA {schema}".encode())
        create_platform(session)
        with pytest.raises(RefusedError, match="already has analytics, content, crm, delivery, journey: "):
            create_platform(session)


# What the platform says of its tables. Where it does not say whether a column may be null, either will do.
PLATFORM = {
    "analytics.contact_activity": """
        organization_id uuid not null, contact_id uuid not null, event_type varchar(100) not null,
        event_source varchar(100) null, event_data jsonb null, created_at timestamp not null default now()
    """,
    "analytics.event_aggregates": """
        organization_id uuid not null, date date not null, event_type varchar(100) not null, channel varchar(50) null,
        count int not null default 0, unique_count int not null default 0
    """,
    "analytics.campaign_daily_stats": """
        campaign_id uuid not null, organization_id uuid not null, date date not null, sent int not null default 0,
        delivered int not null default 0, opened int not null default 0, unique_opened int not null default 0,
        clicked int not null default 0, unique_clicked int not null default 0, bounced int not null default 0,
        complained int not null default 0, unsubscribed int not null default 0
    """,
    "delivery.delivery_jobs": """
        organization_id uuid, channel varchar(50), status varchar(50) default 'queued', recipient_count int default 0,
        sent_count int default 0, failed_count int default 0, idempotency_key varchar(255) not null, metadata jsonb,
        created_at timestamp, completed_at timestamp
    """,
    "delivery.delivery_events": """
        job_id uuid not null, organization_id uuid not null, contact_id uuid not null, channel varchar(50),
        event_type varchar(50), provider_message_id varchar(255), metadata jsonb, created_at timestamp
    """,
    "delivery.provider_configs": """
        organization_id uuid, channel varchar(50), provider_type varchar(50), config jsonb not null,
        is_active bool default true, priority int default 0, created_at timestamp, updated_at timestamp
    """,
    "delivery.suppressions": """
        organization_id uuid, email varchar(255), reason varchar(50), source varchar(255), created_at timestamp
    """,
    "delivery.sending_domains": """
        organization_id uuid, domain varchar(255), status varchar(50) default 'pending', dns_records jsonb,
        verified_at timestamp, created_at timestamp
    """,
    "journey.journeys": """
        organization_id uuid, name varchar(255), description text, status varchar(50) default 'draft', created_by uuid,
        created_at timestamp, updated_at timestamp
    """,
    "journey.journey_versions": """
        journey_id uuid, organization_id uuid, version_number int, definition jsonb not null,
        published_at timestamp null, created_at timestamp
    """,
    "journey.journey_steps": """
        journey_version_id uuid, organization_id uuid, type varchar(50), config jsonb not null, position_x int,
        position_y int
    """,
    "journey.journey_step_connections": "from_step_id uuid, to_step_id uuid, label varchar(255)",
    "journey.journey_triggers": """
        journey_id uuid, organization_id uuid, type varchar(50), config jsonb not null
    """,
    "journey.journey_executions": """
        journey_id uuid, journey_version_id uuid, organization_id uuid, contact_id uuid, status varchar(50),
        started_at timestamp default now(), completed_at timestamp null, current_step_id uuid null
    """,
    "journey.step_executions": """
        execution_id uuid, step_id uuid, organization_id uuid, status varchar(50), started_at timestamp,
        completed_at timestamp, result jsonb, error text
    """,
    "journey.execution_logs": """
        execution_id uuid, organization_id uuid, level varchar(50), message text not null, metadata jsonb,
        created_at timestamp
    """,
    "crm.contacts": """
        organization_id uuid, email varchar(255) null, first_name varchar(255), last_name varchar(255),
        phone varchar(50), status varchar(50) default 'active', stage varchar(50) default 'subscriber',
        custom_fields jsonb, lead_score numeric(5;2), lead_grade varchar(1), last_activity_at timestamp,
        created_at timestamp, updated_at timestamp
    """,
    "crm.segments": """
        organization_id uuid, name varchar(255), description text, type varchar(50), filter_criteria jsonb,
        contact_count int default 0, created_at timestamp, updated_at timestamp
    """,
    "crm.segment_contacts": "segment_id uuid, contact_id uuid, added_at timestamp",
    "crm.tags": "organization_id uuid, name",
    "crm.contact_tags": "contact_id uuid, tag_id uuid",
    "crm.companies": "",
    "crm.contact_companies": "contact_id uuid, company_id uuid, role",
    "content.templates": """
        organization_id uuid, name varchar(255), type varchar(20), category, subject varchar(500), body_html text,
        body_text text, body_json jsonb, is_active bool default true, created_by uuid, created_at timestamp,
        updated_at timestamp
    """,
}
SHORT = {
    "character varying": "varchar",
    "timestamp without time zone": "timestamp",
    "integer": "int",
    "boolean": "bool",
    "numeric(5,2)": "numeric(5;2)",
}


def test_the_tables_are_those_that_the_platform_describes(fresh: Settings) -> None:
    query = b"""
    SELECT attrelid::regclass::text AS name,
           attname || ' ' || format_type(atttypid, atttypmod) AS kind,
           CASE WHEN attnotnull THEN ' not null' ELSE ' null' END AS nullable,
           coalesce(' default ' || split_part(pg_get_expr(adbin, adrelid), '::', 1), '') AS value
    FROM pg_attribute
    JOIN pg_class ON pg_class.oid = attrelid AND relkind = 'r'
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE relnamespace::regnamespace::text = ANY (%(schemas)s) AND attnum > 0
    ORDER BY attrelid, attnum
    """
    written: dict[str, set[str]] = defaultdict(set)
    with connect(fresh) as session:
        for row in session.rows(query, _SCHEMAS):
            kind = row["kind"]
            for long, short in SHORT.items():
                kind = kind.replace(long, short)
            # As the platform may write it: whole, or without what it leaves open.
            forms = (kind + row["nullable"] + row["value"], kind + row["value"], kind, kind.split()[0])
            written[row["name"]].update(forms)
    assert written.keys() == PLATFORM.keys()
    for table, columns in PLATFORM.items():
        described = {column.strip() for column in columns.split(",") if column.strip()}
        described.add("id uuid not null default gen_random_uuid()")
        assert described <= written[table], table


def test_the_platform_has_one_key_besides_its_primary_keys(fresh: Settings) -> None:
    keys = b"""
    SELECT indexrelid::regclass::text AS name
    FROM pg_index JOIN pg_class ON pg_class.oid = indrelid AND relkind = 'r'
    WHERE indrelid >= 16384 AND NOT indisprimary
    """
    with connect(fresh) as session:
        assert session.rows(keys) == [{"name": "delivery.delivery_jobs_idempotency_key_key"}]


def test_the_lighter_ledger_keeps_the_rows_and_the_grants(fresh: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr("mauntic_jobs.migrations.upgrade.migrations", lambda: migrations()[:8])
        upgrade(fresh, _silent)
    with connect(fresh) as session:
        session.execute(
            b"INSERT INTO mauntic_jobs.deliveries (organization_id, delivery_id, channel, state, until, address,"
            b" queue_job, owner, payload, attempts, possible_duplicate)"
            b" SELECT gen_random_uuid(), state, 'email', state, now(), 'ann@example.com', 'j1', gen_random_uuid(),"
            b" '{\"campaignId\": \"c7\"}', '[{}]', state = 'deferred'"
            b" FROM unnest(ARRAY['sending', 'sent', 'deferred', 'failed']) AS each (state)"
        )
        before = session.rows(b"SELECT * FROM mauntic_jobs.deliveries ORDER BY delivery_id")
        with role(fresh, "GRANT SELECT, UPDATE ON mauntic_jobs.deliveries TO {role}") as own:
            upgrade(fresh, _silent)
            name = urlsplit(own.database_url.get_secret_value() if own.database_url else "").username
            granted = session.rows(
                b"SELECT table_name::text, privilege_type::text FROM information_schema.role_table_grants"
                b" WHERE grantee = %(name)s ORDER BY 1, 2",
                {"name": name},
            )
        after = session.rows(b"SELECT * FROM mauntic_jobs.deliveries ORDER BY delivery_id")
    assert [tuple(row.values()) for row in granted] == [
        *(
            (table, right)
            for table in ("deliveries", "frequency_caps", "lease_sweep", "sent_count")
            for right in ("SELECT", "UPDATE")
        ),
        *(("sent_minutes", right) for right in ("DELETE", "INSERT", "SELECT")),
    ]
    assert [{name: row[name] for name in before[0]} for row in after] == before
    assert {row["campaign_id"] for row in after} == {"c7"}
    assert {row["delivery_id"]: row["unsent_state"] for row in after} == {
        "deferred": "deferred",
        "failed": "failed",
        "sending": None,
        "sent": None,
    }
