import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis import Redis

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ExitCode, UnavailableError
from mauntic_jobs.job import Context, JobResult, Overlap
from mauntic_jobs.jobs.segment_trigger_eval import SEGMENT_TRIGGER_EVAL
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.runner.outbox import publish
from mauntic_jobs.runner.request import Launcher, Report, Request, Status
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping.window import Unit, Window, naive
from tests.jobs.segment_rows import ACME, GLOBEX, NOW, Journey, Platform


@pytest.fixture
def ready(settings: Settings, servers: Servers) -> Settings:
    """Settings with a queue prefix of the test's own."""
    return Settings(
        **{**settings.model_dump(), "redis_url": servers.redis_url, "queue_prefix": f"{{test-{uuid4().hex}}}"},
    )


@pytest.fixture
def redis(servers: Servers) -> Iterator[Any]:
    with Redis.from_url(servers.redis_url, decode_responses=True) as client:
        yield client


def _request(settings: Settings, now: datetime = NOW, **changes: Any) -> Request:
    window = Window.before(now, Unit.HOUR)
    return Request(
        job=SEGMENT_TRIGGER_EVAL,
        window=window,
        coverage=window,
        options=SEGMENT_TRIGGER_EVAL.options.model_validate(changes.pop("options", {})),
        settings=settings,
        launcher=Launcher.CLI,
        now=now,
        **changes,
    )


def _evaluate(settings: Settings, now: datetime = NOW, **changes: Any) -> Report:
    return run(_request(settings, now, **changes))


@pytest.fixture
def platform(session: Session) -> Platform:
    return Platform(session)


def _entered(platform: Platform, journey: Journey) -> list[UUID]:
    return sorted(row["contact_id"] for row in platform.executions(journey.id))


def test_members_of_a_dynamic_segment_enter_and_others_do_not(ready: Settings, platform: Platform) -> None:
    ann, bob = platform.contact(first_name="Ann"), platform.contact(first_name="Bob")
    stranger = platform.contact(GLOBEX, first_name="Ann")
    segment = platform.segment(operator="and", conditions=[{"field": "firstName", "operator": "eq", "value": "ann"}])
    journey = platform.journey(segment)
    report = _evaluate(ready)
    assert (report.exit_code, report.counters["entered"]) == (ExitCode.DONE, 1)
    (execution,) = platform.executions(journey.id)
    assert (execution["contact_id"], execution["status"], execution["started_at"]) == (ann, "active", naive(NOW))
    assert (execution["journey_version_id"], execution["current_step_id"]) == (journey.version, journey.step)
    assert execution["organization_id"] == ACME
    assert {bob, stranger}.isdisjoint(_entered(platform, journey))


def test_members_of_a_static_segment_enter_if_they_belong_to_the_organization(
    ready: Settings, platform: Platform
) -> None:
    ann, _bob, stranger = platform.contact(), platform.contact(), platform.contact(GLOBEX)
    segment = platform.segment(kind="static")
    platform.member(segment, ann)
    platform.member(segment, ann)
    platform.member(segment, stranger)
    journey = platform.journey(segment)
    _evaluate(ready)
    assert _entered(platform, journey) == [ann]


def test_the_executor_is_asked_to_begin_each_execution(ready: Settings, platform: Platform, redis: Any) -> None:
    ann = platform.contact()
    journey = platform.journey(platform.segment())
    _evaluate(ready)
    (execution,) = platform.executions(journey.id)
    queue = f"{ready.queue_prefix}:journey:execute-step"
    assert redis.lrange(f"{queue}:wait", 0, -1) == [str(execution["id"])]
    job = redis.hgetall(f"{queue}:{execution['id']}")
    assert job["name"] == "execute-step"
    assert json.loads(job["data"]) == {
        "executionId": str(execution["id"]),
        "stepId": str(journey.step),
        "journeyId": str(journey.id),
        "contactId": str(ann),
        "organizationId": str(ACME),
        "versionId": str(journey.version),
    }
    options = json.loads(job["opts"])
    assert (options["attempts"], options["backoff"]) == (4, {"type": "exponential", "delay": 1000})


def test_a_second_run_lets_nobody_in_twice(ready: Settings, platform: Platform, redis: Any) -> None:
    platform.contact()
    journey = platform.journey(platform.segment())
    _evaluate(ready)
    assert _evaluate(ready).counters["entered"] == 0
    assert len(platform.executions(journey.id)) == 1
    assert redis.llen(f"{ready.queue_prefix}:journey:execute-step:wait") == 1


_DAY, _TICK = timedelta(days=1), timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("rules", "status", "ago", "enters"),
    [
        ({}, "active", 400 * _DAY, False),
        ({}, "completed", 400 * _DAY, False),
        ({"reEntry": {"type": "once"}}, "canceled", 400 * _DAY, False),
        ({"reEntry": {"type": "always"}}, "completed", _TICK, True),
        ({"reEntry": {"type": "always"}}, "failed", _TICK, True),
        ({"reEntry": {"type": "always"}}, "active", 400 * _DAY, False),
        ({"reEntry": {"type": "cooldown", "cooldownDays": 7}}, "completed", 7 * _DAY - _TICK, False),
        ({"reEntry": {"type": "cooldown", "cooldownDays": 7}}, "completed", 7 * _DAY, True),
        ({"reEntry": {"type": "cooldown", "cooldownDays": 7}}, "active", 8 * _DAY, False),
    ],
)
def test_a_contact_that_was_in_the_journey_enters_again_as_the_rule_says(
    ready: Settings, platform: Platform, rules: dict[str, Any], status: str, ago: timedelta, *, enters: bool
) -> None:
    ann = platform.contact()
    journey = platform.journey(platform.segment(), **rules)
    journey.add_execution(ann, status, NOW - ago)
    assert _evaluate(ready).counters["entered"] == int(enters)


@pytest.mark.parametrize(("ago", "enters"), [(30 * _DAY - _TICK, False), (30 * _DAY, True)])
def test_the_frequency_cap_counts_the_entries_within_its_window(
    ready: Settings, platform: Platform, ago: timedelta, *, enters: bool
) -> None:
    ann = platform.contact()
    rules: dict[str, Any] = {"reEntry": {"type": "always"}, "frequencyCap": {"maxCount": 2, "windowDays": 30}}
    journey = platform.journey(platform.segment(), **rules)
    journey.add_execution(ann, "completed", NOW - _DAY)
    journey.add_execution(ann, "completed", NOW - ago)
    assert _evaluate(ready).counters["entered"] == int(enters)


def test_the_newest_published_version_is_entered(ready: Settings, platform: Platform) -> None:
    platform.contact()
    journey = platform.journey(platform.segment())
    newest = journey.publish(3, NOW)
    journey.publish(4, None)
    journey.publish(5, NOW + _TICK)
    first, second = journey.add_step(newest, "action"), journey.add_step(newest, "exit")
    platform.insert("journey.journey_step_connections", from_step_id=first, to_step_id=second)
    _evaluate(ready)
    (execution,) = platform.executions(journey.id)
    assert (execution["journey_version_id"], execution["current_step_id"]) == (newest, first)


def test_a_journey_without_a_published_version_is_reported_and_no_failure(ready: Settings, platform: Platform) -> None:
    platform.contact()
    platform.journey(platform.segment())
    platform.session.execute(b"UPDATE journey.journey_versions SET published_at = NULL")
    report = _evaluate(ready)
    assert (report.exit_code, report.counters["unpublished"], report.counters["entered"]) == (ExitCode.DONE, 1, 0)
    assert "no version of it is published" in report.problems[0]


@pytest.mark.parametrize("status", ["draft", "paused", "archived"])
def test_journeys_that_are_not_active_are_left_alone(ready: Settings, platform: Platform, status: str) -> None:
    platform.contact()
    platform.journey(platform.segment(), status=status)
    assert _evaluate(ready).counters["triggers"] == 0


def test_one_trigger_that_fails_is_reported_and_the_others_go_on(
    ready: Settings, platform: Platform, session: Session
) -> None:
    ann = platform.contact()
    bad = platform.journey(platform.segment(conditions=[{"field": "email", "operator": "like", "value": "x"}]))
    good = platform.journey(platform.segment())
    report = _evaluate(ready)
    assert (report.status, report.exit_code) == (Status.SUCCEEDED, ExitCode.PARTIAL)
    assert (report.counters["failed"], report.counters["entered"]) == (1, 1)
    assert _entered(platform, good) == [ann]
    assert _entered(platform, bad) == []
    (row,) = list_runs(session)
    assert str(bad.trigger) in row["error"]
    assert "criteria cannot be used" in row["error"]


def test_a_segment_that_takes_too_long_fails_alone(ready: Settings, platform: Platform, session: Session) -> None:
    session.execute(
        b"CREATE FUNCTION slow(uuid) RETURNS uuid LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN $1; END';"
        b"ALTER TABLE crm.contacts RENAME TO all_contacts;"
        b"CREATE VIEW crm.contacts AS SELECT slow(id) AS id, organization_id FROM crm.all_contacts"
    )
    platform.insert("crm.all_contacts", organization_id=ACME)
    platform.journey(platform.segment())
    report = _evaluate(ready, options={"time_limit": "0.2s"})
    assert (report.exit_code, report.counters["failed"]) == (ExitCode.PARTIAL, 1)


@pytest.mark.parametrize("owner", [GLOBEX, None])
def test_a_segment_of_another_organization_is_refused_like_one_that_does_not_exist(
    ready: Settings, platform: Platform, owner: UUID | None
) -> None:
    platform.contact()
    segment = platform.segment(owner) if owner else uuid4()
    journey = platform.journey(segment)
    report = _evaluate(ready)
    assert report.problems == [f"trigger {journey.trigger}: its organization has no segment {segment}"]
    assert report.counters["entered"] == 0


@pytest.mark.parametrize(
    "rules",
    [
        {"segmentId": "x"},
        {"reEntry": {"type": "sometimes"}},
        {"reEntry": {"type": "cooldown"}},
        {"reEntry": {"type": "cooldown", "cooldownDays": 10**9}},
        {"frequencyCap": {"maxCount": "x", "windowDays": 1}},
        {"frequencyCap": {"maxCount": 1}},
    ],
)
def test_a_configuration_that_cannot_be_meant_is_reported(
    ready: Settings, platform: Platform, rules: dict[str, Any]
) -> None:
    platform.contact()
    platform.journey(platform.segment(), **rules)
    report = _evaluate(ready)
    assert (report.exit_code, report.counters["failed"]) == (ExitCode.PARTIAL, 1)
    assert "configuration cannot be used" in report.problems[0]


def test_the_count_of_a_dynamic_segment_is_brought_up_to_date(ready: Settings, platform: Platform) -> None:
    platform.contact(stage="lead")
    platform.contact(stage="lead")
    dynamic = platform.segment(conditions=[{"field": "stage", "operator": "eq", "value": "lead"}])
    static = platform.segment(kind="static")
    platform.journey(dynamic)
    platform.journey(static)
    _evaluate(ready)
    counts = platform.session.rows(b"SELECT id, contact_count FROM crm.segments")
    assert {row["id"]: row["contact_count"] for row in counts} == {dynamic: 2, static: 0}


def test_a_dry_run_tells_how_many_would_enter_and_writes_nothing(
    ready: Settings, platform: Platform, redis: Any
) -> None:
    platform.contact()
    journey = platform.journey(platform.segment())
    report = _evaluate(ready, dry_run=True)
    assert [(row["trigger"], row["members"], row["entering"]) for row in report.changes] == [(journey.trigger, 1, 1)]
    assert platform.executions(journey.id) == []
    assert redis.keys(f"{ready.queue_prefix}:*") == []


def test_the_options_limit_what_is_evaluated(ready: Settings, platform: Platform) -> None:
    platform.contact()
    first, second = platform.journey(platform.segment()), platform.journey(platform.segment())
    _evaluate(ready, options={"journey": [first.id]})
    assert (len(_entered(platform, first)), len(_entered(platform, second))) == (1, 0)
    _evaluate(ready, options={"trigger": [second.trigger], "org": [ACME]})
    assert len(_entered(platform, second)) == 1
    assert _evaluate(ready, options={"org": [GLOBEX]}).exit_code == ExitCode.USAGE


def test_explaining_shows_the_statement_and_its_plan(ready: Settings, platform: Platform) -> None:
    platform.contact()
    platform.journey(platform.segment(conditions=[{"field": "plan", "operator": "eq", "value": "pro"}]))
    told: list[str] = []
    _evaluate(ready, options={"explain": True}, dry_run=True, log=told.append)
    assert "custom_fields ->>" in told[0]
    assert "Scan" in told[0]


def test_more_candidates_than_a_batch_enter(
    ready: Settings, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mauntic_jobs.segments.entries.BATCH", 10)
    people = sorted(platform.contact() for _ in range(25))
    journey = platform.journey(platform.segment())
    assert _evaluate(ready).counters["entered"] == 25
    assert _entered(platform, journey) == people


def test_a_kill_before_the_commit_leaves_nothing(ready: Settings, platform: Platform, session: Session) -> None:
    platform.contact()
    journey = platform.journey(platform.segment())

    class _KilledError(Exception):
        pass

    def work(context: Context[Any], window: Window) -> JobResult:
        SEGMENT_TRIGGER_EVAL.run(context, window)
        raise _KilledError

    with pytest.raises(_KilledError):
        run(replace(_request(ready), job=replace(SEGMENT_TRIGGER_EVAL, run=work)))
    assert platform.executions(journey.id) == []
    assert session.row(b"SELECT count(*) AS n FROM mauntic_jobs.outbox")["n"] == 0


def _outbox(session: Session) -> dict[str, int]:
    return session.row(
        b"SELECT count(*) FILTER (WHERE published_at IS NULL) AS due, count(published_at) AS published"
        b" FROM mauntic_jobs.outbox"
    )


def test_a_kill_between_the_commit_and_the_queue_is_made_up_for_by_the_next_run(
    ready: Settings, platform: Platform, session: Session, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.contact()
    platform.journey(platform.segment())
    with monkeypatch.context() as patched:
        patched.setattr("mauntic_jobs.runner.attempts.publish", _killed)
        with pytest.raises(KeyboardInterrupt):
            _evaluate(ready)
    assert _outbox(session) == {"due": 1, "published": 0}
    _evaluate(ready)
    assert _outbox(session) == {"due": 0, "published": 1}
    assert redis.llen(f"{ready.queue_prefix}:journey:execute-step:wait") == 1


def _killed(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_kill_between_the_queue_and_the_mark_doubles_nothing(
    ready: Settings, platform: Platform, session: Session, redis: Any
) -> None:
    platform.contact()
    platform.journey(platform.segment())
    _evaluate(ready)
    session.execute(b"UPDATE mauntic_jobs.outbox SET published_at = NULL")
    scripts = open_redis(ready)
    assert publish(session, scripts, ready, NOW) == (1, 0, False)
    scripts.close()
    assert redis.llen(f"{ready.queue_prefix}:journey:execute-step:wait") == 1


@pytest.mark.parametrize("ended", ["steps", "status"])
def test_an_execution_that_has_begun_is_not_put_on_the_queue_again(
    ready: Settings, platform: Platform, session: Session, redis: Any, ended: str
) -> None:
    platform.contact()
    journey = platform.journey(platform.segment())
    _evaluate(ready)
    (execution,) = platform.executions(journey.id)
    queue = f"{ready.queue_prefix}:journey:execute-step"
    redis.delete(f"{queue}:wait", f"{queue}:{execution['id']}")  # as after an hour, when completed jobs are removed
    session.execute(b"UPDATE mauntic_jobs.outbox SET published_at = NULL")
    if ended == "steps":
        platform.insert(
            "journey.step_executions",
            execution_id=execution["id"],
            step_id=journey.step,
            organization_id=ACME,
            status="running",
        )
    else:
        session.execute(b"UPDATE journey.journey_executions SET status = 'completed'")
    scripts = open_redis(ready)
    assert publish(session, scripts, ready, NOW) == (0, 1, False)
    scripts.close()
    assert redis.keys(f"{queue}:wait") == []


def test_redis_that_goes_away_after_the_commit_makes_the_run_partial(
    ready: Settings, platform: Platform, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.contact()
    platform.journey(platform.segment())

    def unavailable(*_: Any) -> None:
        raise UnavailableError("Redis is away.")

    monkeypatch.setattr("mauntic_jobs.runner.attempts.publish", unavailable)
    report = _evaluate(ready)
    assert (report.status, report.exit_code, report.attempt) == (Status.SUCCEEDED, ExitCode.PARTIAL, 4)
    assert "outbox publish" in report.problems[0]
    assert _outbox(session) == {"due": 1, "published": 0}


def test_redis_that_is_away_before_anything_is_done_leaves_everything_as_it_was(
    ready: Settings, platform: Platform
) -> None:
    platform.contact()
    journey = platform.journey(platform.segment())
    nowhere = Settings(**{**ready.model_dump(), "redis_url": "redis://127.0.0.1:1/0"})
    assert _evaluate(nowhere).exit_code == ExitCode.UNAVAILABLE
    assert platform.executions(journey.id) == []


def test_runs_side_by_side_let_nobody_in_twice(ready: Settings, platform: Platform) -> None:
    from threading import Thread

    people = sorted(platform.contact() for _ in range(50))
    journey = platform.journey(platform.segment(), reEntry={"type": "always"})
    reports: list[Report] = []
    threads = [Thread(target=lambda: reports.append(_evaluate(ready, overlap=Overlap.ALLOW))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [report.status for report in reports] == [Status.SUCCEEDED] * 4
    assert _entered(platform, journey) == people


def test_a_job_that_is_no_execution_is_published_and_holds_up_no_other(
    ready: Settings, platform: Platform, redis: Any
) -> None:
    platform.session.execute(
        b"INSERT INTO mauntic_jobs.outbox (queue, job_id, name, data)"
        b" VALUES ('journey:execute-step', 'of-a-plugin', 'execute-step', '{}')"
    )
    platform.contact()
    journey = platform.journey(platform.segment())
    assert _evaluate(ready).exit_code == ExitCode.DONE
    (execution,) = platform.executions(journey.id)
    queue = f"{ready.queue_prefix}:journey:execute-step"
    assert sorted(redis.lrange(f"{queue}:wait", 0, -1)) == sorted(["of-a-plugin", str(execution["id"])])


def _by_plan(platform: Platform, operator: str = "neq") -> tuple[UUID, UUID, "Journey"]:
    """Return a contact without a plan, one of another plan, and a journey for those whose plan is not `pro`."""
    absent, other = platform.contact(), platform.contact(custom_fields={"plan": "Pro"})
    platform.contact(custom_fields={"plan": "pro"})
    segment = platform.segment(conditions=[{"field": "plan", "operator": operator, "value": "pro"}])
    return absent, other, platform.journey(segment)


def _count(platform: Platform) -> int:
    return int(platform.session.row(b"SELECT contact_count FROM crm.segments")["contact_count"])


def test_by_setting_the_members_are_those_that_the_platform_counts(ready: Settings, platform: Platform) -> None:
    _absent, other, journey = _by_plan(platform)
    settings = Settings(**{**ready.model_dump(), "segments_compatibility": "platform"})
    assert _evaluate(settings).exit_code == ExitCode.DONE
    assert (_entered(platform, journey), _count(platform)) == ([other], 1)


def test_a_count_that_the_platform_reads_otherwise_is_left_to_it(ready: Settings, platform: Platform) -> None:
    absent, _other, journey = _by_plan(platform)
    platform.session.execute(b"UPDATE crm.segments SET contact_count = 77")
    assert _evaluate(ready).exit_code == ExitCode.DONE
    assert (_entered(platform, journey), _count(platform)) == ([absent], 77)
    platform.session.execute(
        b"""UPDATE crm.segments SET filter_criteria = '{"conditions": [{"field": "plan", "operator": "is_set"}]}'"""
    )
    _evaluate(ready)
    assert _count(platform) == 2


def test_explaining_names_the_segments_whose_members_differ_by_reading(ready: Settings, platform: Platform) -> None:
    _by_plan(platform)
    same = platform.journey(platform.segment(conditions=[{"field": "plan", "operator": "is_set"}]))
    said: list[str] = []
    _evaluate(ready, options={"explain": True}, dry_run=True, log=said.append)
    (line,) = [line for line in said if "differ" in line]
    assert "its members differ by reading: 1 only by the strict one, 1 only by the platform's" in line
    assert str(same.id) not in line


def test_an_unknown_operator_is_refused_or_ignored_by_reading(ready: Settings, platform: Platform) -> None:
    ann = platform.contact()
    journey = platform.journey(platform.segment(conditions=[{"field": "plan", "operator": "matches", "value": "x"}]))
    assert _evaluate(ready).exit_code == ExitCode.PARTIAL
    assert _entered(platform, journey) == []
    settings = Settings(**{**ready.model_dump(), "segments_compatibility": "platform"})
    said: list[str] = []
    assert _evaluate(settings, options={"explain": True}, log=said.append).exit_code == ExitCode.DONE
    assert _entered(platform, journey) == [ann]
    assert any("only one reading of its criteria can be used" in line for line in said)
