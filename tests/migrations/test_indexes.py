import random
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import pytest

from mauntic_jobs.errors import ConflictError, JobFailedError, LockedError
from mauntic_jobs.migrations.indexes import INDEXES, IndexState, states
from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.migrations.upgrade import inspect, script, upgrade
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Limits, Session, connect
from mauntic_jobs.timekeeping.window import naive
from tests.support import contact, organization, psql, run_program, utc, wait_until

ROLLUPS, STATISTICS = "analytics.event_aggregates", "analytics.campaign_daily_stats"
EXECUTIONS = "journey.journey_executions"
KEY = "mauntic_jobs_event_aggregates_key"
BUILD = b"CREATE UNIQUE INDEX CONCURRENTLY " + KEY.encode() + b" ON analytics.event_aggregates (organization_id, date)"
ROLLUP = b"""
INSERT INTO analytics.event_aggregates (id, organization_id, date, event_type, channel, count, unique_count)
VALUES (%(id)s, %(organization)s, '2026-10-05', %(type)s, %(channel)s, %(count)s, %(unique)s)
"""
STATISTIC = b"""
INSERT INTO analytics.campaign_daily_stats (id, campaign_id, organization_id, date, sent, opened, unsubscribed)
VALUES (%(id)s, %(campaign)s, %(organization)s, '2026-10-05', %(sent)s, %(opened)s, %(unsubscribed)s)
"""
EXECUTION = b"""
INSERT INTO journey.journey_executions
    (id, journey_id, journey_version_id, organization_id, contact_id, status, started_at)
VALUES (%(id)s, %(journey)s, gen_random_uuid(), %(organization)s, %(contact)s, %(status)s, %(started)s)
"""
ROWS = b"SELECT id, to_jsonb(rollup) AS row FROM analytics.event_aggregates AS rollup"
MOVED = b"""
SELECT table_name, kept_id, (row_data ->> 'id')::uuid AS id, row_data
FROM mauntic_jobs.duplicates ORDER BY 3
"""


@pytest.fixture
def fresh(empty_database: Settings) -> Settings:
    """Return the settings of a database with the platform's tables only."""
    with connect(empty_database) as session:
        create_platform(session)
    return empty_database


@pytest.fixture
def fresh_session(fresh: Settings) -> Iterator[Session]:
    with connect(fresh) as session:
        yield session


def _silent(_message: str) -> None:
    return None


def _add(session: Session, number: int, **values: Any) -> None:
    """Add a rollup whose id has this number; values that are not given are the same for all."""
    row = {"organization": organization(1), "type": "email_opened", "channel": None, "count": 1, "unique": 1}
    session.execute(ROLLUP, {"id": UUID(int=number), **row, **values})


def _left(session: Session, table: str = ROLLUPS) -> set[int]:
    return {row["id"].int for row in session.rows(b"SELECT id FROM " + table.encode())}


def _moved(session: Session) -> dict[int, int]:
    """Return the number of each row that was moved, and that of the row that was kept instead."""
    return {row["id"].int: row["kept_id"].int for row in session.rows(MOVED)}


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ([{"count": 5}, {"count": 7}, {"count": 6}], 2),
        ([{"count": 7, "unique": 1}, {"count": 7, "unique": 3}, {"count": 7, "unique": 2}], 2),
        ([{"count": 5, "unique": 5}, {"count": 6, "unique": 1}], 2),
        ([{"count": 7, "unique": 3}, {"count": 7, "unique": 3}, {"count": 6, "unique": 9}], 1),
        ([{"channel": "monthly_summary", "count": 1}, {"channel": "monthly_summary", "count": 2}], 2),
    ],
)
def test_of_the_rollups_with_one_key_the_highest_count_then_unique_count_then_the_lowest_id_stays(
    fresh: Settings, fresh_session: Session, rows: list[dict[str, Any]], kept: int
) -> None:
    for number, row in enumerate(rows, 1):
        _add(fresh_session, number, **row)
    assert upgrade(fresh, _silent) == {ROLLUPS: len(rows) - 1}
    assert _left(fresh_session) == {kept}
    assert _moved(fresh_session) == {number: kept for number in range(1, len(rows) + 1) if number != kept}


def test_the_statistic_with_most_events_in_all_then_the_lowest_id_stays(
    fresh: Settings, fresh_session: Session
) -> None:
    campaigns = {UUID(int=1): [(9, 0, 0), (3, 3, 4), (5, 4, 0)], UUID(int=2): [(2, 0, 0), (0, 1, 1)]}
    number = 0
    for campaign, rows in campaigns.items():
        for sent, opened, unsubscribed in rows:
            number += 1
            row = {"id": UUID(int=number), "campaign": campaign, "organization": organization(1)}
            fresh_session.execute(STATISTIC, {**row, "sent": sent, "opened": opened, "unsubscribed": unsubscribed})
    assert upgrade(fresh, _silent) == {STATISTICS: 3}
    assert _left(fresh_session, STATISTICS) == {2, 4}
    assert _moved(fresh_session) == {1: 2, 3: 2, 5: 4}
    assert {row["table_name"] for row in fresh_session.rows(MOVED)} == {STATISTICS}


def test_the_active_execution_that_started_first_then_the_lowest_id_stays(
    fresh: Settings, fresh_session: Session
) -> None:
    early, late = utc("2026-10-05T10:00"), utc("2026-10-05T11:00")
    executions = [
        (1, "active", late),
        (1, "active", early),
        (1, "active", early),
        (1, "completed", early),
        (1, "completed", early),
        (2, "active", late),
    ]
    for number, (person, status, started) in enumerate(executions, 1):
        row: dict[str, Any] = {"id": UUID(int=number), "journey": UUID(int=7), "organization": organization(1)}
        row |= {"contact": contact(person), "status": status, "started": naive(started)}
        fresh_session.execute(EXECUTION, row)
    assert upgrade(fresh, _silent) == {EXECUTIONS: 2}
    assert _left(fresh_session, EXECUTIONS) == {2, 4, 5, 6}
    assert _moved(fresh_session) == {1: 2, 3: 2}


def test_rows_with_different_keys_stay(fresh: Settings, fresh_session: Session) -> None:
    _add(fresh_session, 1)
    _add(fresh_session, 2, organization=organization(2))
    _add(fresh_session, 3, type="email_clicked")
    _add(fresh_session, 4, channel="email")
    _add(fresh_session, 5, channel="")
    assert upgrade(fresh, _silent) == {}
    assert _left(fresh_session) == {1, 2, 3, 4, 5}


def test_no_row_is_lost_and_no_moved_row_is_changed(fresh: Settings, fresh_session: Session) -> None:
    chance = random.Random(42)
    groups: dict[tuple[UUID, str, str | None], list[tuple[int, int, int]]] = {}
    for number in range(1, 201):
        key = organization(chance.randrange(3)), chance.choice(["a", "b"]), chance.choice([None, "email", ""])
        count, unique = chance.randrange(4), chance.randrange(4)
        groups.setdefault(key, []).append((count, unique, -number))
        _add(fresh_session, number, organization=key[0], type=key[1], channel=key[2], count=count, unique=unique)
    before = {row["id"]: row["row"] for row in fresh_session.rows(ROWS)}
    moved = upgrade(fresh, _silent)
    kept = {-max(rows)[2] for rows in groups.values()}
    assert moved == {ROLLUPS: 200 - len(kept)}
    assert _left(fresh_session) == kept
    expected = {-row[2]: -max(rows)[2] for rows in groups.values() for row in rows}
    assert _moved(fresh_session) == {number: winner for number, winner in expected.items() if number != winner}
    after = {row["id"]: row["row"] for row in fresh_session.rows(ROWS)}
    after |= {row["id"]: row["row_data"] for row in fresh_session.rows(MOVED)}
    assert after == before


def test_a_dry_run_counts_the_duplicates_and_moves_none(fresh: Settings, fresh_session: Session) -> None:
    for number in (1, 2, 3):
        _add(fresh_session, number)
    dry_run = run_program("db", "upgrade", "--dry-run", settings=fresh)
    assert "analytics.event_aggregates: 2 duplicate rows to be moved to mauntic_jobs.duplicates" in dry_run.stderr
    assert {table: rows for table, rows in inspect(fresh_session).surplus.items() if rows} == {ROLLUPS: 2}
    assert _left(fresh_session) == {1, 2, 3}


def test_the_upgrade_tells_how_many_duplicates_were_moved(fresh: Settings, fresh_session: Session) -> None:
    for number in (1, 2, 3):
        _add(fresh_session, number)
    upgraded = run_program("db", "upgrade", settings=fresh)
    assert "analytics.event_aggregates: 2 duplicate rows moved to mauntic_jobs.duplicates" in upgraded.stderr


def test_a_duplicate_cannot_be_added_afterwards_and_an_old_writer_says_so(
    fresh: Settings, fresh_session: Session
) -> None:
    upgrade(fresh, _silent)
    _add(fresh_session, 1)
    with pytest.raises(ConflictError, match=KEY):
        _add(fresh_session, 2)


def _leave_invalid(session: Session) -> None:
    """Leave an index behind whose build failed on two rows with the same key."""
    _add(session, 1)
    _add(session, 2)
    with pytest.raises(ConflictError):
        session.execute_alone(BUILD)
    assert {index.name: state for index, state in states(session).items()}[KEY] is IndexState.INVALID


def test_an_invalid_index_is_built_anew(fresh: Settings, fresh_session: Session) -> None:
    _leave_invalid(fresh_session)
    assert upgrade(fresh, _silent) == {ROLLUPS: 1}
    assert set(states(fresh_session).values()) == {IndexState.PRESENT}
    definition = fresh_session.row(b"SELECT indexdef FROM pg_indexes WHERE indexname = %(name)s", {"name": KEY})
    assert "(organization_id, date, event_type, channel) NULLS NOT DISTINCT" in definition["indexdef"]


def test_the_script_for_an_invalid_index_builds_it_anew(fresh: Settings, fresh_session: Session) -> None:
    _leave_invalid(fresh_session)
    fresh_session.execute(b"DELETE FROM analytics.event_aggregates")
    psql(fresh, script(inspect(fresh_session)))
    assert inspect(fresh_session).current


def test_an_index_of_the_same_name_on_another_schema_is_not_ours(fresh: Settings, fresh_session: Session) -> None:
    fresh_session.execute(b"CREATE SCHEMA backup")
    for index in INDEXES:
        copy = f"backup.{index.table.partition('.')[2]}"
        fresh_session.execute(f"CREATE TABLE IF NOT EXISTS {copy} (LIKE {index.table})".encode())
        fresh_session.execute_alone(index.sql.replace(index.table, copy).encode())
    assert set(states(fresh_session).values()) == {IndexState.MISSING}
    upgrade(fresh, _silent)
    built = fresh_session.rows(
        b"SELECT FROM pg_indexes WHERE schemaname <> 'backup' AND indexname LIKE 'mauntic_jobs%'"
    )
    assert len(built) == len(INDEXES)


class _Building:
    """An upgrade in a thread, which waits for a transaction that has written to the table of the key."""

    def __init__(self, settings: Settings, pool: ThreadPoolExecutor, watcher: Session) -> None:
        self.told: list[str] = []
        self.end: Future[dict[str, int]] = pool.submit(upgrade, settings, self.told.append)
        waiting = b"""
        SELECT FROM pg_stat_activity
        WHERE query LIKE 'CREATE UNIQUE INDEX CONCURRENTLY mauntic_jobs_event_aggregates_key%'
          AND wait_event_type = 'Lock' AND datname = current_database()
        """

        def waits() -> bool:
            assert not self.end.done(), self.end.result()
            return bool(watcher.rows(waiting))

        wait_until(waits, "a build that waits for the writer")


def test_writers_go_on_while_an_index_is_built(fresh: Settings, fresh_session: Session) -> None:
    # The pool is left last, when the writer's transaction has ended whatever happened.
    with ThreadPoolExecutor(1) as pool, connect(fresh) as writer, connect(fresh) as third:
        with writer.transaction():
            _add(writer, 1)
            building = _Building(fresh, pool, fresh_session)
            with third.transaction(Limits(statement_timeout=timedelta(seconds=20))):
                _add(third, 2, type="email_clicked")
            with pytest.raises(LockedError):
                upgrade(fresh, _silent)
            assert not building.end.done()
        assert building.end.result(60) == {}
    assert _left(fresh_session) == {1, 2}
    assert set(states(fresh_session).values()) == {IndexState.PRESENT}


def test_a_duplicate_that_appears_during_the_build_is_moved_too(fresh: Settings, fresh_session: Session) -> None:
    _add(fresh_session, 1)
    with ThreadPoolExecutor(1) as pool, connect(fresh) as writer:
        with writer.transaction():
            _add(writer, 2, count=9)
            building = _Building(fresh, pool, fresh_session)
        assert building.end.result(60) == {ROLLUPS: 1}
    assert [line for line in building.told if "trying again" in line] == [
        f"{ROLLUPS}: new duplicates appeared while {KEY} was built; trying again"
    ]
    assert _moved(fresh_session) == {1: 2}
    assert set(states(fresh_session).values()) == {IndexState.PRESENT}


def test_a_build_that_duplicates_outrun_is_given_up_and_leaves_no_broken_index(
    fresh: Settings, fresh_session: Session
) -> None:
    fresh_session.execute(b"""
    CREATE FUNCTION write_as_ever() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO analytics.event_aggregates (organization_id, date, event_type)
        SELECT '00000000-0000-0000-0000-000000000001', '2026-10-05', 'x' FROM generate_series(1, 2);
        RETURN NULL;
    END $$;
    CREATE TRIGGER write_as_ever AFTER DELETE ON analytics.event_aggregates EXECUTE FUNCTION write_as_ever();
    """)
    told: list[str] = []
    with pytest.raises(JobFailedError, match=r"Stop the jobs that mauntic-jobs replaces, then run `mauntic-jobs db"):
        upgrade(fresh, told.append)
    assert len([line for line in told if "trying again" in line]) == 5
    found = {index.name: state for index, state in states(fresh_session).items()}
    assert found[KEY] is IndexState.MISSING
    # Each move but the first met the two rows of the trigger before it, and one or two that had stayed.
    rows = fresh_session.row(b"SELECT count(*) AS rows FROM analytics.event_aggregates")["rows"]
    assert rows + len(fresh_session.rows(MOVED)) == 10
    fresh_session.execute(b"DROP TRIGGER write_as_ever ON analytics.event_aggregates")
    upgrade(fresh, _silent)
    assert inspect(fresh_session).current


def test_the_events_of_a_day_are_found_by_their_index(fresh: Settings, fresh_session: Session) -> None:
    upgrade(fresh, _silent)
    fresh_session.execute(b"""
    INSERT INTO analytics.contact_activity (organization_id, contact_id, event_type, created_at)
    SELECT '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000002', 'email_opened',
           timestamp '2026-01-01' + number * interval '10 minutes'
    FROM generate_series(1, 50000) AS number
    """)
    fresh_session.execute_alone(b"VACUUM ANALYZE analytics.contact_activity")
    plan = fresh_session.rows(
        b"EXPLAIN SELECT FROM analytics.contact_activity WHERE created_at >= %(day)s AND created_at < %(day)s + 1",
        {"day": date(2026, 6, 1)},
    )
    assert "mauntic_jobs_contact_activity_created_at" in str(plan)


PARTITIONED = b"""
DROP TABLE analytics.contact_activity;
CREATE TABLE analytics.contact_activity (
    id uuid NOT NULL DEFAULT gen_random_uuid(), organization_id uuid NOT NULL, contact_id uuid NOT NULL,
    event_type varchar(100) NOT NULL, event_source varchar(100), event_data jsonb,
    created_at timestamp NOT NULL DEFAULT now()
) PARTITION BY RANGE (created_at);
CREATE TABLE analytics.activity_2026_10 PARTITION OF analytics.contact_activity
    FOR VALUES FROM ('2026-10-01') TO ('2026-11-01');
CREATE TABLE analytics."activity 2026-11" PARTITION OF analytics.contact_activity
    FOR VALUES FROM ('2026-11-01') TO ('2026-12-01') PARTITION BY HASH (organization_id);
CREATE TABLE analytics.activity_2026_11_0 PARTITION OF analytics."activity 2026-11"
    FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE analytics.activity_2026_11_1 PARTITION OF analytics."activity 2026-11"
    FOR VALUES WITH (MODULUS 2, REMAINDER 1)
"""
LATER = b"""
CREATE TABLE analytics.activity_2026_12 PARTITION OF analytics.contact_activity
    FOR VALUES FROM ('2026-12-01') TO ('2027-01-01')
"""
UNINDEXED = b"""
SELECT tree.relid::regclass::text AS name
FROM pg_partition_tree('analytics.contact_activity') AS tree
WHERE NOT EXISTS (SELECT FROM pg_index AS index WHERE index.indrelid = tree.relid AND index.indisvalid)
"""


def test_a_partitioned_table_gets_its_index_partition_by_partition(fresh: Settings, fresh_session: Session) -> None:
    fresh_session.execute(PARTITIONED)
    assert "ON ONLY analytics.contact_activity" in script(inspect(fresh_session))
    said: list[str] = []
    upgrade(fresh, said.append)
    assert inspect(fresh_session).current
    assert fresh_session.rows(UNINDEXED) == []
    assert len([line for line in said if "contact_activity_created_at on" in line]) == 5
    fresh_session.execute(LATER)
    assert inspect(fresh_session).current
    assert fresh_session.rows(UNINDEXED) == []


def test_an_index_on_partitions_is_gone_on_with_where_it_was_left(fresh: Settings, fresh_session: Session) -> None:
    fresh_session.execute(PARTITIONED)
    (index,) = [each for each in INDEXES if each.table == "analytics.contact_activity"]
    fresh_session.execute(index.only_sql.encode())
    assert states(fresh_session)[index] is IndexState.INVALID
    (partition,) = fresh_session.rows(b"SELECT 'analytics.activity_2026_10'::regclass::oid::text AS oid")
    name = f"{index.name}_{partition['oid']}"
    fresh_session.execute(f"CREATE INDEX {name} ON analytics.activity_2026_10 USING brin (created_at)".encode())
    fresh_session.execute(
        f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'analytics.{name}'::regclass".encode()
    )
    upgrade(fresh, _silent)
    assert inspect(fresh_session).current
    assert fresh_session.rows(UNINDEXED) == []
