"""The step at which a contact enters a journey, for versions as the platform publishes them."""

import json
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from redis import Redis

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.jobs.segment_trigger_eval import SEGMENT_TRIGGER_EVAL
from mauntic_jobs.runner.request import Launcher, Request
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping.window import Unit, Window, naive
from tests.support import organization, utc
from tests.world.corpus import Case, each_case

NOW = utc("2026-10-05T10:00")
ACME = organization(1)


def _step_id(letter: str) -> UUID:
    return UUID(int=(0xABC << 112) + ord(letter))


def _definition(given: dict[str, Any]) -> str:
    if "raw" in given:
        return str(given["raw"])
    drawing = given.get("definition")
    if drawing is None:
        return "{}"
    steps = [{"id": str(_step_id(letter)), "type": kind, "config": {}} for letter, kind in drawing["steps"]]
    connections = [
        {"from_step_id": str(_step_id(start)), "to_step_id": str(_step_id(end)), "label": None}
        for start, end in drawing["connections"]
    ]
    return json.dumps({"steps": steps, "connections": connections})


def _publish(session: Session, given: dict[str, Any]) -> UUID:
    """Write an active journey with one published version, a segment of everybody, and its trigger."""
    journey, version, segment = uuid4(), uuid4(), uuid4()
    ids = {"organization": ACME, "journey": journey, "version": version, "segment": segment}

    def write(query: str, **values: Any) -> None:
        session.execute(query.encode(), ids | values)

    write("INSERT INTO crm.contacts (organization_id, email) VALUES (%(organization)s, 'ann@example.com')")
    write(
        "INSERT INTO crm.segments (id, organization_id, name, type)"
        " VALUES (%(segment)s, %(organization)s, 'All', 'dynamic')"
    )
    write(
        "INSERT INTO journey.journeys (id, organization_id, name, status)"
        " VALUES (%(journey)s, %(organization)s, 'Welcome', 'active')"
    )
    write(
        "INSERT INTO journey.journey_versions"
        " (id, journey_id, organization_id, version_number, definition, published_at)"
        " VALUES (%(version)s, %(journey)s, %(organization)s, 1, %(definition)s::jsonb, %(at)s)",
        definition=_definition(given),
        at=naive(NOW - timedelta(days=1)),
    )
    write(
        "INSERT INTO journey.journey_triggers (journey_id, organization_id, type, config)"
        " VALUES (%(journey)s, %(organization)s, 'segment', %(config)s::jsonb)",
        config=json.dumps({"type": "segment", "segmentId": str(segment)}),
    )
    rows = given.get("rows", {"steps": [], "connections": []})
    for letter, kind in rows["steps"]:
        write(
            "INSERT INTO journey.journey_steps (id, journey_version_id, organization_id, type, config)"
            " VALUES (%(step)s, %(version)s, %(organization)s, %(kind)s, '{}')",
            step=_step_id(letter),
            kind=kind,
        )
    for start, end in rows["connections"]:
        write(
            "INSERT INTO journey.journey_step_connections (from_step_id, to_step_id) VALUES (%(start)s, %(end)s)",
            start=_step_id(start),
            end=_step_id(end),
        )
    return journey


@each_case("journey_entry")
def test_a_contact_enters_where_the_trigger_step_leads(direct_settings: Settings, servers: Servers, case: Case) -> None:
    prefix = f"{{test-{uuid4().hex}}}"
    settings = Settings(**{**direct_settings.model_dump(), "redis_url": servers.redis_url, "queue_prefix": prefix})
    with connect(settings) as session:
        journey = _publish(session, case.input)
        window = Window.before(NOW, Unit.HOUR)
        options = SEGMENT_TRIGGER_EVAL.options()
        report = run(Request(SEGMENT_TRIGGER_EVAL, window, window, options, settings, Launcher.CLI, NOW))
        query = b"SELECT id, current_step_id FROM journey.journey_executions WHERE journey_id = %(journey)s"
        executions = session.rows(query, {"journey": journey})
    if len(case.answer) > 1:
        assert executions == []
        assert [problem.partition(": ")[2] for problem in report.problems] == [case.answer]
        return
    (execution,) = executions
    assert execution["current_step_id"] == _step_id(case.answer)
    with Redis.from_url(servers.redis_url, decode_responses=True) as redis:
        job = redis.hgetall(f"{prefix}:journey:execute-step:{execution['id']}")
    assert json.loads(job["data"])["stepId"] == str(_step_id(case.answer))
