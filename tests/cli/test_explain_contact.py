"""`explain contact`: what a person reads of a contact and a journey, and what a program gets."""

import json
import shlex
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from typer.testing import CliRunner, Result

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.runner.request import Report
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.timekeeping.window import Unit, Window, naive
from tests.jobs.segment_rows import ACME, GLOBEX, NOW, Journey, Platform
from tests.support import APP, request

CRITERIA: dict[str, Any] = {
    "operator": "and",
    "conditions": [
        {"field": "stage", "operator": "eq", "value": "Lead"},
        {"field": "email", "operator": "ends_with", "value": "@example.com"},
        {"field": "plan", "operator": "neq", "value": "pro"},
        {"field": "visits", "operator": "gte", "value": 3},
    ],
}


@pytest.fixture
def ready(direct_settings: Settings, servers: Servers) -> Settings:
    values = {"redis_url": servers.redis_url, "queue_prefix": f"{{test-{uuid4().hex}}}"}
    return Settings(**{**direct_settings.model_dump(), **values})


@pytest.fixture
def platform(ready: Settings) -> Iterator[Platform]:
    with connect(ready) as session:
        yield Platform(session)


@pytest.fixture(autouse=True)
def _now_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mauntic_jobs.timekeeping.clock.now", lambda: NOW + timedelta(minutes=20))
    monkeypatch.setattr("mauntic_jobs.cli.show.output.terminal_width", lambda: 80)


def asked(settings: Settings, contact: UUID, journey: UUID, options: str = "", **environment: str) -> Result:
    assert settings.database_url
    variables = {"DATABASE_URL": settings.database_url.get_secret_value(), **environment}
    words = ["explain", "contact", str(contact), "--journey", str(journey), *shlex.split(options)]
    return CliRunner().invoke(APP, words, env=variables)


def found(settings: Settings, contact: UUID, journey: UUID, options: str = "", **environment: str) -> dict[str, Any]:
    done = asked(settings, contact, journey, f"{options} --json", **environment)
    assert (done.exit_code, done.stderr) == (ExitCode.DONE, "")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def said(settings: Settings, contact: UUID, journey: UUID, options: str = "") -> str:
    done = asked(settings, contact, journey, options)
    assert (done.exit_code, done.stderr) == (ExitCode.DONE, "")
    # Commands are whole, to be copied.
    assert max(len(line) for line in done.stdout.splitlines() if not line.startswith("    mauntic-jobs")) <= 80
    return " ".join(done.stdout.split())


def evaluate(settings: Settings, at: datetime = NOW, **options: Any) -> Report:
    window = Window.before(at, Unit.HOUR)
    return run(request(settings, window, "segment-trigger-eval", now=at, options=options))


def test_each_condition_is_shown_with_what_the_contact_has(ready: Settings, platform: Platform) -> None:
    ann = platform.contact(email="Ann@Example.com", stage="lead", custom_fields={"visits": "many"})
    journey = platform.journey(platform.segment(**CRITERIA))
    document = found(ready, ann, journey.id)
    (trigger,) = document["triggers"]
    conditions = [
        (each["field"], each["contact_value"], each["answer"], each["holds"]) for each in trigger["conditions"]
    ]
    assert conditions == [
        ("stage", "lead", "true", True),
        ("email", "<address>", "true", True),
        ("plan", None, "unknown", True),
        ("visits", "<value>", "unknown", False),
    ]
    assert (trigger["joint"], trigger["is_member"], trigger["verdict"]) == ("and", False, "no member")
    assert (document["verdict"], document["next_run"]) == ("no member", "2026-10-05T11:00:00+00:00")
    text = said(ready, ann, journey.id)
    assert "It stays out in the run of 2026-10-05 11:00 UTC: it is not in the segment." in text
    assert "Not in the segment: of 4 conditions all must hold, and 3 do." in text
    assert "visits gte 3 <value> unknown no" in text
    assert "Ann@" not in text
    (revealed,) = found(ready, ann, journey.id, "--reveal")["triggers"]
    assert [each["contact_value"] for each in revealed["conditions"]] == ["lead", "Ann@Example.com", None, "many"]
    # The platform's reading: texts in the database's order, and no member without a value.
    (read,) = found(ready, ann, journey.id, MAUNTIC_SEGMENTS_COMPATIBILITY="platform")["triggers"]
    answers = [(each["answer"], each["holds"]) for each in read["conditions"]]
    assert answers == [("true", True), ("true", True), ("unknown", False), ("true", True)]


def test_a_contact_that_may_enter_does_and_its_execution_is_followed(ready: Settings, platform: Platform) -> None:
    ann = platform.contact(stage="lead")
    journey = platform.journey(platform.segment())
    before = found(ready, ann, journey.id)
    assert (before["verdict"], before["executions"]) == ("enters", [])
    assert "as things stand, the run of 2026-10-05 11:00 UTC lets it in" in said(ready, ann, journey.id)
    assert "every contact of the organization is" in said(ready, ann, journey.id)
    report = evaluate(ready)
    document = found(ready, ann, journey.id)
    (execution,) = document["executions"]
    assert (execution["run"], execution["status"], execution["version"]) == (report.run_id, "active", 1)
    assert execution["entered_at"] == "2026-10-05T10:00:00+00:00"
    assert execution["announced"]
    assert execution["asked_at"]
    (trigger,) = document["triggers"]
    assert [each["obstacle"] for each in trigger["blocks"]] == ["in the journey", "once only"]
    text = said(ready, ann, journey.id)
    assert (
        f"it is in the journey: it entered at 2026-10-05 10:00 UTC, and execution {execution['execution_id']}" in text
    )
    assert "and has not begun it" in text
    step = {"execution_id": execution["execution_id"], "organization_id": ACME, "step_id": journey.step}
    error = "provider refused bob@example.com"
    platform.insert("journey.step_executions", **step, status="failed", started_at=naive(NOW), error=error)
    (execution,) = found(ready, ann, journey.id)["executions"]
    (only,) = execution["steps"]
    assert (only["type"], only["status"], only["error"]) == ("action", "failed", "provider refused <address>")
    assert "Step" in said(ready, ann, journey.id)
    platform.session.execute(b"UPDATE mauntic_jobs.outbox SET published_at = NULL")
    platform.session.execute(b"DELETE FROM journey.step_executions")
    assert "`mauntic-jobs outbox publish` asks its executor to begin it" in said(ready, ann, journey.id)


def test_an_execution_of_another_program_has_no_run(ready: Settings, platform: Platform) -> None:
    ann = platform.contact()
    journey = platform.journey(platform.segment())
    evaluate(ready)
    platform.session.execute(b"DELETE FROM journey.journey_executions")
    journey.add_execution(ann, "completed", NOW)
    (execution,) = found(ready, ann, journey.id)["executions"]
    assert (execution["run"], execution["announced"]) == (None, False)


@pytest.mark.parametrize(
    ("rules", "entered", "obstacles", "free_at"),
    [
        ({}, [timedelta(days=400)], ["once only"], None),
        ({"reEntry": {"type": "always"}}, [timedelta(0)], [], None),
        # Days are 24 hours after the entry: the run of 11:00 comes just in time, or a minute too early.
        ({"reEntry": {"type": "cooldown", "cooldownDays": 2}}, [timedelta(hours=47)], [], None),
        (
            {"reEntry": {"type": "cooldown", "cooldownDays": 2}},
            [timedelta(hours=46, minutes=59)],
            ["cooldown"],
            "2026-10-05T11:01:00+00:00",
        ),
        (
            {"reEntry": {"type": "always"}, "frequencyCap": {"maxCount": 2, "windowDays": 1}},
            [timedelta(hours=1), timedelta(hours=2), timedelta(hours=30)],
            ["frequency cap"],
            "2026-10-06T08:00:00+00:00",
        ),
        (
            {"reEntry": {"type": "always"}, "frequencyCap": {"maxCount": 0, "windowDays": 1}},
            [],
            ["frequency cap"],
            None,
        ),
    ],
)
def test_entry_rules_say_what_blocks_and_until_when(
    ready: Settings,
    platform: Platform,
    rules: dict[str, Any],
    entered: list[timedelta],
    obstacles: list[str],
    free_at: str | None,
) -> None:
    ann = platform.contact()
    journey = platform.journey(platform.segment(), **rules)
    for ago in entered:
        journey.add_execution(ann, "completed", NOW - ago)
    document = found(ready, ann, journey.id)
    (trigger,) = document["triggers"]
    assert ([each["obstacle"] for each in trigger["blocks"]], trigger["free_at"]) == (obstacles, free_at)
    assert document["verdict"] == ("blocked" if obstacles else "enters")
    report = evaluate(ready, NOW + timedelta(hours=1))
    assert report.counters["entered"] == (0 if obstacles else 1)
    assert said(ready, ann, journey.id).count("Blocked:") == len(found(ready, ann, journey.id)["triggers"][0]["blocks"])


def test_a_change_that_leaves_no_trace_is_found_by_a_full_evaluation(ready: Settings, platform: Platform) -> None:
    ann = platform.contact()
    journey = platform.journey(platform.segment())
    evaluate(ready)
    platform.session.execute(b"DELETE FROM journey.journey_executions")
    document = found(ready, ann, journey.id)
    (trigger,) = document["triggers"]
    # Each organization has its own time of the day for that.
    assert (document["verdict"], trigger["full_at"]) == ("enters later", "2026-10-05T14:02:41+00:00")
    text = said(ready, ann, journey.id)
    assert f"mauntic-jobs segment-trigger-eval --journey {journey.id} --full" in text
    assert evaluate(ready, NOW + timedelta(hours=1)).counters["entered"] == 0
    assert evaluate(ready, NOW + timedelta(hours=2), full=True).counters["entered"] == 1


def test_a_static_segment_has_a_list(ready: Settings, platform: Platform) -> None:
    ann, bob = platform.contact(), platform.contact()
    segment = platform.segment(kind="static")
    platform.member(segment, ann)
    journey = platform.journey(segment)
    (trigger,) = found(ready, ann, journey.id)["triggers"]
    assert (trigger["is_member"], trigger["conditions"], trigger["joint"]) == (True, [], None)
    assert trigger["added_at"]
    assert "In the segment: the contact is on its list since" in said(ready, ann, journey.id)
    assert "Not in the segment: the contact is not on its list." in said(ready, bob, journey.id)


def test_what_keeps_everyone_out_is_told(ready: Settings, platform: Platform) -> None:
    ann = platform.contact()
    segment = platform.segment()
    paused = platform.journey(segment, status="paused")
    broken = platform.journey(platform.segment(conditions=[{"field": "x", "operator": "sounds_like", "value": 1}]))
    unpublished, empty = platform.journey(segment), platform.journey(segment)
    platform.session.execute(
        b"UPDATE journey.journey_versions SET published_at = NULL WHERE id = %(id)s", {"id": unpublished.version}
    )
    platform.session.execute(b"DELETE FROM journey.journey_triggers WHERE id = %(id)s", {"id": empty.trigger})
    expected = {
        paused.id: ("journey not active", "the journey is paused, and runs look at active ones"),
        broken.id: ("cannot be evaluated", "the segment's criteria cannot be used: conditions.0.operator"),
        unpublished.id: ("cannot be evaluated", "no version of it is published"),
        empty.id: ("no segment trigger", "the journey has no segment trigger"),
    }
    for journey, (verdict, sentence) in expected.items():
        assert found(ready, ann, journey)["verdict"] == verdict
        assert sentence in said(ready, ann, journey)
    assert evaluate(ready).counters["entered"] == 0


def test_one_of_several_triggers_is_enough(ready: Settings, platform: Platform) -> None:
    ann = platform.contact(stage="lead")
    never = platform.segment(conditions=[{"field": "stage", "operator": "eq", "value": "customer"}])
    journey = platform.journey(never)
    assert found(ready, ann, journey.id)["verdict"] == "no member"
    config = {"type": "segment", "segmentId": str(platform.segment())}
    own = {"journey_id": journey.id, "organization_id": ACME, "type": "segment"}
    platform.insert("journey.journey_triggers", **own, config=config)
    document = found(ready, ann, journey.id)
    assert sorted(each["verdict"] for each in document["triggers"]) == ["enters", "no member"]
    assert document["verdict"] == "enters"


def test_a_pause_of_the_job_moves_its_next_run(ready: Settings, platform: Platform) -> None:
    ann = platform.contact()
    journey = platform.journey(platform.segment())
    pause = b"""
    INSERT INTO mauntic_jobs.schedules (job, paused_until, paused_why, paused_by)
    VALUES ('segment-trigger-eval', %(until)s, 'incident', 'ops')
    ON CONFLICT (job) DO UPDATE SET paused_until = excluded.paused_until
    """
    for minutes, expected in ((30, "11:00"), (60, "11:00"), (90, "11:30"), (600, "20:00")):
        platform.session.execute(pause, {"until": NOW + timedelta(minutes=minutes)})
        document = found(ready, ann, journey.id)
        assert document["next_run"] == f"2026-10-05T{expected}:00+00:00"
        assert document["pause"].endswith("by ops: incident")
    assert "The job is paused until 2026-10-05 20:00 UTC, by ops: incident." in said(ready, ann, journey.id)


def test_a_slot_that_is_due_is_run_now(ready: Settings, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    ann = platform.contact()
    journey = platform.journey(platform.segment())
    monkeypatch.setattr("mauntic_jobs.timekeeping.clock.now", lambda: NOW)
    assert found(ready, ann, journey.id)["next_run"] == "2026-10-05T10:00:00+00:00"


def test_ids_that_do_not_belong_together_are_refused(ready: Settings, platform: Platform) -> None:
    ann, stranger = platform.contact(), platform.contact(GLOBEX)
    journey: Journey = platform.journey(platform.segment())
    refusals = {
        (ann, ann): f"No journey {ann}. Check --journey.",
        (journey.id, journey.id): f"has no contact {journey.id}",
        (stranger, journey.id): f"Organization {ACME}, whose journey it is, has no contact {stranger}",
    }
    for (contact, of), message in refusals.items():
        done = asked(ready, contact, of)
        assert (done.exit_code, done.stdout) == (ExitCode.USAGE, "")
        assert message in " ".join(done.stderr.split())
    done = CliRunner().invoke(APP, ["explain", "contact", str(ann)])
    assert done.exit_code == ExitCode.USAGE
    assert "--journey" in done.stderr


def test_nothing_is_written(ready: Settings, platform: Platform) -> None:
    ann = platform.contact()
    journey = platform.journey(platform.segment())
    evaluate(ready)
    query = b"SELECT xmin, * FROM journey.journey_executions"
    before = platform.session.rows(query), platform.session.rows(b"SELECT xmin, * FROM mauntic_jobs.segment_marks")
    said(ready, ann, journey.id)
    after = platform.session.rows(query), platform.session.rows(b"SELECT xmin, * FROM mauntic_jobs.segment_marks")
    assert after == before
