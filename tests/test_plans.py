"""Plans of the statements that read large tables: none reads such a table from its beginning to its end."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from mauntic_jobs.delivery.ledger.waits import PATTERNS, Wait
from mauntic_jobs.segments.entries import make_tables
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping.window import naive
from tests.support import contact, organization, utc

# The tables that grow with the messages, the events, the runs and the tenants.
LARGE = (
    "mauntic_jobs.deliveries",
    "mauntic_jobs.runs",
    "mauntic_jobs.sent_minutes",
    "mauntic_jobs.figure_changes",
    "delivery.delivery_events",
    "delivery.delivery_jobs",
    "delivery.provider_configs",
    "delivery.sending_domains",
    "journey.journey_executions",
    "journey.step_executions",
    "mauntic_jobs.outbox",
)
ROWS = 50_000_000
NOW = datetime(2026, 11, 5, 10, tzinfo=UTC)
NAMES = {"organization": organization(1), "delivery": "d1"}
PAGE = {"organization": UUID(int=0), "delivery": "", "page": 500}
FAILED = {
    "state": "failed",
    "campaign": UUID(int=7),
    "organization": organization(1),
    "channel": None,
    "since": None,
    "reason": None,
}
EXPIRED = {**FAILED, "state": "expired", "campaign": None}
ALL = {"organization": None, "channel": None, "limit": 20}

CHANGES = {
    "job": "aggregate-hourly",
    "first": NOW.date() - timedelta(days=30),
    "after": NOW.date(),
    "organization": organization(1),
    "kind": None,
}
ENTERED = {"journey": UUID(int=7), "contact": contact(1), "organization": organization(1)}

STATEMENTS: list[tuple[str, str, dict[str, Any]]] = [
    ("deliveries", "providers", {"organization": organization(1), "channel": "email"}),
    ("deliveries", "domain", {"organization": organization(1), "domain": "acme.test"}),
    ("deliveries", "end_leases", {"resend_after": timedelta(minutes=2), "most": 500, "behind": timedelta(hours=1)}),
    ("evidence", "evidence", {"most": 500}),
    ("outbox", "due", {"queue": "journey:execute-step", "after": 0, "limit": 500}),
    ("delivery_desk", "show", NAMES),
    ("deliveries", "owed", PAGE),
    ("deliveries", "being_sent", {"behind": timedelta(hours=1)}),
    ("deliveries", "uncertain", {"within": timedelta(hours=1)}),
    ("deliveries", "unrecorded", PAGE),
    ("delivery_desk", "unsent_reasons", FAILED),
    ("delivery_desk", "unsent_page", {**FAILED, "after": "", "page": 500}),
    ("delivery_desk", "unsent_reasons", {**EXPIRED, "organization": None, "since": NOW}),
    ("delivery_desk", "unsent_page", {**EXPIRED, "after": "", "page": 500}),
    ("deliveries", "standing", {"organizations": [organization(1)], "deliveries": ["d1"]}),
    ("deliveries", "close_campaigns", {}),
    ("deliveries", "swept", {"lease": timedelta(minutes=1)}),
    ("delivery_desk", "list", {**ALL, "states": None, "since": None}),
    ("delivery_desk", "list", {**ALL, "states": ["sent"], "since": None}),
    ("delivery_desk", "list", {**ALL, "states": None, "organization": organization(1), "since": NOW}),
    ("delivery_desk", "list_of_organization", {**ALL, "states": None, "organization": organization(2)}),
    ("delivery_desk", "list_unsent", {**ALL, "states": ["failed"]}),
    ("delivery_desk", "list_unsent", {**ALL, "states": ["deferred", "ambiguous"], "organization": organization(1)}),
    ("delivery_desk", "count", {"organization": None, "since": NOW}),
    ("delivery_desk", "count", {"organization": organization(1), "since": NOW}),
    ("monitor", "held", {"before": NOW, "most": 10_000}),
    ("monitor", "deferred", {"before": NOW, "most": 10_000, "waits": PATTERNS}),
    ("monitor", "refused", {"since": NOW, "classes": ["bounced"], "fewest": 20}),
    ("monitor", "waiting", {"since": NOW, "wait": Wait.RECEIVER, "fewest": 20, "most": 100_000}),
    ("monitor", "count_minutes", {"first": NOW - timedelta(minutes=1), "end": NOW}),
    ("monitor", "forget_minutes", {"before": NOW - timedelta(minutes=999)}),
    ("monitor", "sent", {"since": NOW - timedelta(hours=1), "settled": NOW, "organizations": [organization(1)]}),
    (
        "reputation",
        "outcomes",
        {
            "by": "monitor",
            "now": NOW,
            "hour": NOW - timedelta(hours=1),
            "day": NOW - timedelta(days=1),
            "fewest_bounced": 20,
            "fewest_complained": 5,
        },
    ),
    ("monitor", "expired", {"since": NOW, "most": 10_000}),
    (
        "dead_letters",
        "failed_runs",
        {"id": None, "since": NOW - timedelta(days=1), "until": NOW, "present": ["segment-trigger-eval"]},
    ),
    ("coverage", "runs", {"job": "aggregate-hourly", "start": NOW - timedelta(days=90), "until": NOW}),
    ("figures", "runs", {"job": "aggregate-hourly", "start": NOW - timedelta(days=90), "until": NOW}),
    ("figures", "changes", {**CHANGES, "limit": 100}),
    ("figures", "changes", {**CHANGES, "organization": None, "kind": "k", "limit": 100}),
    ("figures", "last_changes", CHANGES),
    ("retention", "figure_changes_old", {"after": 0, "before": NOW, "batch": 1000}),
    ("figures", "latest_runs", {"job": "segment-trigger-eval", "limit": 1500}),
    ("runs", "window_claim", {"backfill": 1, "window_start": NOW}),
    ("backfills", "list", {"id": None, "job": None, "open": True, "limit": 20}),
    ("backfills", "windows", {"id": 1}),
    ("backfills", "next", {"id": 1, "failed_only": False}),
    ("retention", "backfills_old", {"after": 0, "before": NOW, "batch": 1000}),
    # It reads the contacts whole, once for all triggers: docs/segments.md says why.
    (
        "segment_marks",
        "changed_contacts",
        {
            "horizon": "7",
            "organizations": [organization(1)],
            "segments": [],
            "segment_organizations": [],
            "journeys": [UUID(int=7)],
            "journey_organizations": [organization(1)],
            "waited_after": [NOW - timedelta(hours=1)],
            "waited_until": [NOW],
        },
    ),
    ("contact_journey", "entries", {**ENTERED, "no_entry_since": NOW, "cap": 2, "cap_since": NOW}),
    ("contact_journey", "executions", {**ENTERED, "job": "segment-trigger-eval", "limit": 5}),
    ("contact_journey", "steps", {"execution": UUID(int=7), "organization": organization(1), "limit": 200}),
    ("dead_letters", "later_windows", {"ids": [1], "starts": [NOW - timedelta(days=1)], "ends": [NOW]}),
]


ROW_OF_EACH = (
    """
    INSERT INTO mauntic_jobs.deliveries (
        organization_id, delivery_id, channel, state, queue_job, owner, job_id, claimed_at, updated_at
    )
    SELECT
        %(org)s, 'd' || n, 'email', CASE WHEN n %% 20 = 0 THEN 'failed' ELSE 'sent' END, 'j', gen_random_uuid(),
        gen_random_uuid(), %(at)s - n * interval '1 minute', %(at)s - n * interval '1 minute'
    FROM generate_series(1, 10000) AS n
    """,
    "ANALYZE mauntic_jobs.deliveries",
    """
    INSERT INTO mauntic_jobs.runs (
        job, window_start, window_end, launcher, host, pid, version, fencing_token, status, finished_at
    )
    VALUES ('aggregate-hourly', %(at)s, %(at)s + interval '1 hour', 'cli', 'h', 1, '0', 1, 'succeeded', %(at)s)
    """,
    """
    INSERT INTO mauntic_jobs.sent_minutes (minute, organization_id, channel, messages)
    SELECT %(at)s - n * interval '1 minute', %(org)s, 'email', 1 FROM generate_series(1, 1000) AS n
    """,
    "ANALYZE mauntic_jobs.sent_minutes",
    """
    INSERT INTO mauntic_jobs.figure_changes
        (changed_at, run_id, job, bucket, organization_id, reason, kinds, old, new)
    SELECT %(at)s - n * interval '1 hour', 1, 'aggregate-hourly', (%(at)s - n * interval '1 hour')::date, %(org)s,
           'rebuild', ARRAY['k'], ARRAY[ARRAY[1, 1]], ARRAY[ARRAY[2, 1]]
    FROM generate_series(1, 2000) AS n
    """,
    "ANALYZE mauntic_jobs.figure_changes",
    """
    INSERT INTO delivery.delivery_events (job_id, organization_id, contact_id, channel, event_type, created_at)
    VALUES (gen_random_uuid(), %(org)s, %(contact)s, 'email', 'sent', '2026-11-05')
    """,
    """
    INSERT INTO delivery.delivery_jobs (organization_id, channel, status, idempotency_key, completed_at)
    SELECT %(org)s, 'email', 'sent', n::text, '2026-11-05' FROM generate_series(1, 1000) AS n
    """,
    "ANALYZE delivery.delivery_jobs",
    """
    INSERT INTO delivery.provider_configs (organization_id, channel, provider_type, config)
    VALUES (%(org)s, 'email', 'ses', '{}')
    """,
    """
    INSERT INTO delivery.sending_domains (organization_id, domain, created_at)
    VALUES (%(org)s, 'acme.test', '2026-11-05')
    """,
    """
    INSERT INTO journey.journey_executions (journey_id, journey_version_id, organization_id, contact_id, status)
    SELECT gen_random_uuid(), %(contact)s, %(org)s, %(contact)s, 'completed' FROM generate_series(1, 1000)
    """,
    "ANALYZE journey.journey_executions",
    """
    INSERT INTO journey.step_executions (execution_id, step_id, organization_id, status)
    SELECT gen_random_uuid(), %(contact)s, %(org)s, 'completed' FROM generate_series(1, 1000)
    """,
    "ANALYZE journey.step_executions",
    """
    INSERT INTO mauntic_jobs.outbox (queue, job_id, name, data)
    SELECT 'journey:execute-step', gen_random_uuid(), 'execute-step', '{}' FROM generate_series(1, 1000)
    """,
    "ANALYZE mauntic_jobs.outbox",
)


@pytest.fixture
def session(direct_settings: Settings) -> Iterator[Session]:
    with connect(direct_settings) as opened:
        _fill(opened)
        yield opened


def _fill(session: Session) -> None:
    """Add rows to each of the large tables: the estimates of an empty one are 0, whatever the catalog says."""
    for query in ROW_OF_EACH:
        session.execute(query.encode(), {"org": organization(1), "contact": contact(1), "at": NOW})


def large_scans(session: Session, query: bytes, parameters: dict[str, Any]) -> list[str]:
    """Return the large tables that the plan of a query would read whole, if they had as many rows as `ROWS`."""
    nodes = [node for node in plan(session, query, parameters) if node["Node Type"] == "Seq Scan"]
    return [
        node["Relation Name"] for node in nodes if node["Relation Name"] in {name.partition(".")[2] for name in LARGE}
    ]


def plan(session: Session, query: bytes, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the nodes of a query's plan, for large tables."""
    for table in LARGE:
        # The planner multiplies the rows a page that the catalog has with the pages that the table has.
        session.execute(
            b"UPDATE pg_class SET relpages = pg_relation_size(oid) / 8192, reltuples = %(rows)s"
            b" WHERE oid = %(table)s::regclass"
            b" OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = %(table)s::regclass)",
            {"table": table, "rows": ROWS},
        )
    (found,) = session.row(b"EXPLAIN (FORMAT json) " + query, parameters)["QUERY PLAN"]
    return list(_nodes(found["Plan"]))


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for each in node.get("Plans", []):
        yield from _nodes(each)


@pytest.mark.parametrize(
    ("file", "name", "parameters"), STATEMENTS, ids=[f"{file}.{name}" for file, name, _ in STATEMENTS]
)
def test_a_statement_reads_no_large_table_whole(
    session: Session, file: str, name: str, parameters: dict[str, Any]
) -> None:
    query = statements(file)[name].replace(b"{columns}", b", contact.custom_fields")
    assert large_scans(session, query, parameters) == []


@pytest.mark.parametrize("table", LARGE)
def test_a_table_that_is_read_whole_is_noticed(session: Session, table: str) -> None:
    query = f"SELECT * FROM {table}".encode()
    assert large_scans(session, query, {}) == [table.partition(".")[2]]


@pytest.mark.parametrize(
    ("asked", "index"), [(FAILED, "deliveries_failed_of_campaign"), (EXPIRED, "deliveries_expired")]
)
def test_a_page_of_unsent_messages_is_read_in_its_order(session: Session, asked: dict[str, Any], index: str) -> None:
    query = statements("delivery_desk")["unsent_page"]
    nodes = plan(session, query, {**asked, "after": "", "page": 500})
    assert index in {node.get("Index Name") for node in nodes}


def test_executions_that_keep_contacts_out_are_found_by_one_index(session: Session) -> None:
    """Most by it alone, and none by an index of those that are active, of which statistics may know none."""
    asked = {"numbers": [0], "journeys": [UUID(int=7)], "no_entry_since": [NOW], "caps": [2], "cap_since": [NOW]}
    with session.transaction():
        make_tables(session)
        query = statements("segment_triggers")["candidates"].replace(b"{hits}", b"pg_temp.mauntic_jobs_hits")
        nodes = [node for node in plan(session, query, asked) if node.get("Relation Name") == "journey_executions"]
    found = {node["Alias"]: (node["Node Type"], node["Index Name"].partition("executions_")[2]) for node in nodes}
    assert found == {
        "execution": ("Index Only Scan", "by_contact"),
        "execution_1": ("Index Scan", "by_contact"),
        "execution_2": ("Index Only Scan", "by_contact"),
    }


def test_the_ledger_is_read_once_for_all_campaigns(session: Session) -> None:
    nodes = plan(session, statements("deliveries")["campaigns"], {})
    scans = [node for node in nodes if node.get("Relation Name") == "deliveries"]
    assert len(scans) == 1
    # Neither for each campaign, nor for each row of another table.
    assert not any(node.get("Subplan Name", "").startswith("SubPlan") for node in nodes)
    assert "Nested Loop" not in {node["Node Type"] for node in nodes}


def test_each_failed_run_is_looked_up_among_the_successes(session: Session) -> None:
    session.execute(
        b"INSERT INTO mauntic_jobs.runs (job, window_start, window_end, launcher, host, pid, version, fencing_token,"
        b" status, finished_at) SELECT 'aggregate-hourly', %(at)s - n * interval '5 minutes',"
        b" %(at)s - (n - 1) * interval '5 minutes', 'cli', 'h', 1, '0', 1,"
        b" CASE WHEN n %% 100 = 0 THEN 'failed' ELSE 'succeeded' END, %(at)s FROM generate_series(1, 10000) AS n",
        {"at": NOW},
    )
    session.execute_alone(b"VACUUM ANALYZE mauntic_jobs.runs")
    asked = {"id": None, "since": None, "until": NOW, "present": ["segment-trigger-eval"]}
    query = b"EXPLAIN (FORMAT json) " + statements("dead_letters")["failed_runs"]
    (found,) = session.row(query, asked)["QUERY PLAN"]
    nodes = list(_nodes(found["Plan"]))
    assert {"runs_failed", "runs_succeeded", "runs_covering"} <= {node.get("Index Name") for node in nodes}
    assert "Seq Scan" not in {node["Node Type"] for node in nodes if node.get("Relation Name") == "runs"}


_OF_A_DAY = {
    "start": naive(utc("2026-11-05")),
    "end": naive(utc("2026-11-06")),
    "date": NOW.date(),
    "organizations": None,
    "campaigns": None,
    "all_channels": False,
    "longest": None,
    "largest": None,
    "allow_shrink": False,
    "share": None,
    "seed": None,
    "half": None,
}


@pytest.mark.parametrize("file", ["event_counts", "campaign_daily_stats"])
def test_events_are_counted_within_their_organization(session: Session, file: str) -> None:
    """Where tables are distributed by organization, as by Citus, each node counts its own."""
    query = b"EXPLAIN (VERBOSE, FORMAT json) " + statements(file)["count"]
    (found,) = session.row(query, _OF_A_DAY)["QUERY PLAN"]
    groupings = [node["Group Key"] for node in _nodes(found["Plan"]) if node["Node Type"] == "Aggregate"]
    assert len(groupings) > 1
    for keys in groupings:
        assert any(key.endswith("organization_id") for key in keys), keys


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("event_counts", "count"),
        ("event_aggregates", "audit"),
        ("campaign_daily_stats", "count"),
        ("campaign_daily_stats", "audit"),
    ],
)
def test_a_day_is_read_from_its_own_partition(session: Session, file: str, name: str) -> None:
    session.execute(b"ALTER TABLE analytics.contact_activity RENAME TO activity_as_one")
    session.execute(
        b"CREATE TABLE analytics.contact_activity (LIKE analytics.activity_as_one INCLUDING DEFAULTS)"
        b" PARTITION BY RANGE (created_at)"
    )
    for day in (4, 5, 6):
        session.execute(
            f"CREATE TABLE analytics.activity_of_{day} PARTITION OF analytics.contact_activity"
            f" FOR VALUES FROM ('2026-11-0{day}') TO ('2026-11-0{day + 1}')".encode()
        )
    query = b"EXPLAIN (FORMAT json) " + statements(file)[name]
    (found,) = session.row(query, _OF_A_DAY)["QUERY PLAN"]
    read = {node.get("Relation Name") for node in _nodes(found["Plan"])}
    assert {each for each in read if each and each.startswith("activity_")} == {"activity_of_5"}
