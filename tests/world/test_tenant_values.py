"""A value in one tenant's row changes no result of another tenant, whatever the value is."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.job import Row
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.runner.request import Launcher, Report
from mauntic_jobs.runner.run import run
from mauntic_jobs.runner.slot_request import slot_request
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect, json
from tests.support import organization, utc
from tests.world.corpus import Case, each_case

OWN, OTHER, CAMPAIGN = organization(1), organization(2), organization(9)
# The first of a month, on which every job has a slot.
SLOTS = {
    "aggregate-hourly": utc("2026-06-01T01:00"),
    "generate-daily-reports": utc("2026-06-01T02:00"),
    "monthly-usage-summary": utc("2026-06-01T03:00"),
    "segment-trigger-eval": utc("2026-06-01T03:00"),
    "stale-execution-cleanup": utc("2026-06-01T03:00"),
}
# Every kind of comparison is reached before the one that holds.
CRITERIA = {
    "operator": "or",
    "conditions": [
        {"field": "score", "operator": "gt", "value": 100},
        {"field": "score", "operator": "eq", "value": 7},
        {"field": "signed", "operator": "lt", "value": "2001-01-01"},
        {"field": "signed", "operator": "in", "value": ["2026-05-01", "x"]},
        {"field": "score", "operator": "contains", "value": "none"},
        {"field": "lastActivityAt", "operator": "lt", "value": "2001-01-01"},
        {"field": "createdAt", "operator": "eq", "value": "2001-01-01"},
        {"field": "plan", "operator": "eq", "value": "pro"},
    ],
}


class Tenant:
    """An organization with a row in every table that the jobs read; `ids` are those of its rows, by table."""

    def __init__(self, session: Session, owner: UUID) -> None:
        self._session = session
        self.owner = owner
        self.ids: dict[str, UUID] = {}
        fields = json({"plan": "pro", "score": 5, "signed": "2026-04-30"})
        contact = self._insert("crm.contacts", custom_fields=fields, last_activity_at="2026-05-31")
        segment = self._insert("crm.segments", name="segment", type="dynamic", filter_criteria=json(CRITERIA))
        journey = self._insert("journey.journeys", name="journey", status="active")
        version = self._insert(
            "journey.journey_versions",
            journey_id=journey,
            version_number=1,
            definition=json({}),
            published_at="2026-05-01",
        )
        step = self._insert("journey.journey_steps", journey_version_id=version, type="delay", config=json({}))
        trigger = json({"type": "segment", "segmentId": str(segment)})
        self._insert("journey.journey_triggers", journey_id=journey, type="segment", config=trigger)
        self._insert(
            "journey.journey_executions",
            journey_id=uuid4(),
            journey_version_id=version,
            contact_id=contact,
            status="active",
            started_at="2026-05-01",
            current_step_id=step,
        )
        self._insert(
            "analytics.contact_activity",
            contact_id=contact,
            event_type="email_sent",
            event_source=str(CAMPAIGN),
            created_at="2026-05-31 23:30",
        )

    def set(self, column: str, expression: str) -> None:
        """Give one of the tenant's rows a value, written in SQL."""
        table, _, name = column.rpartition(".")
        value = expression.replace("{segment}", str(self.ids["crm.segments"]))
        query = f"UPDATE {table} SET {name} = {value} WHERE id = %(id)s"
        self._session.execute(query.encode(), {"id": self.ids[table]})

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query with `WHERE {own}`, in order."""
        found = self._session.rows(query.replace("{own}", "organization_id = %(o)s").encode(), {"o": self.owner})
        return sorted(tuple(map(str, row.values())) for row in found)

    def _insert(self, table: str, **values: Any) -> UUID:
        values = {"organization_id": self.owner, **values}
        places = ", ".join(f"%({name})s" for name in values)
        row: Row = self._session.row(
            f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places}) RETURNING id".encode(), values
        )
        self.ids[table] = row["id"]
        return self.ids[table]


@pytest.fixture
def here(direct_settings: Settings, servers: Servers) -> Settings:
    own = {"redis_url": servers.redis_url, "queue_prefix": f"{{test-{uuid4().hex}}}"}
    return Settings(**{**direct_settings.model_dump(), **own})


def _run(settings: Settings, name: str) -> Report:
    slot = SLOTS[name]
    return run(slot_request(JOBS[name], slot, settings, Launcher.SCHEDULE, slot))


def _check_results(tenant: Tenant) -> None:
    assert tenant.rows("SELECT date, event_type, count, unique_count FROM analytics.event_aggregates WHERE {own}") == [
        ("2026-05-01", "monthly:email_sent", "1", "1"),
        ("2026-05-31", "email_sent", "1", "1"),
    ]
    assert tenant.rows("SELECT campaign_id, date, sent FROM analytics.campaign_daily_stats WHERE {own}") == [
        (str(CAMPAIGN), "2026-05-31", "1")
    ]
    assert tenant.rows(
        "SELECT journey_id, status FROM journey.journey_executions WHERE {own} AND status = 'active'"
    ) == [(str(tenant.ids["journey.journeys"]), "active")]
    assert tenant.rows("SELECT status FROM journey.journey_executions WHERE {own}") == [("active",), ("canceled",)]
    assert len(tenant.rows("SELECT id FROM journey.execution_logs WHERE {own}")) == 1


@each_case("tenant_values")
def test_a_value_of_one_tenant_changes_no_row_of_another(here: Settings, case: Case) -> None:
    with connect(here) as session:
        own, other = Tenant(session, OWN), Tenant(session, OTHER)
        other.set(case.input["column"], case.input["value"])
        reports = {name: _run(here, name) for name in SLOTS}
        _check_results(own)
        assert {report.error for report in reports.values()} == {None}
        segments = reports["segment-trigger-eval"]
        if case.answer:
            (problem,) = segments.problems
            assert segments.exit_code is ExitCode.PARTIAL
            assert problem.startswith(f"trigger {other.ids['journey.journey_triggers']}: {case.answer}")
        else:
            assert (segments.exit_code, segments.problems) == (ExitCode.DONE, [])


def test_without_such_a_value_both_tenants_have_the_same_results(here: Settings) -> None:
    with connect(here) as session:
        tenants = [Tenant(session, OWN), Tenant(session, OTHER)]
        assert {_run(here, name).exit_code for name in SLOTS} == {ExitCode.DONE}
        for tenant in tenants:
            _check_results(tenant)
