"""What is noticed without asking, on both sides of every edge, and what is not."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from queue import SimpleQueue
from typing import Any, cast
from uuid import uuid4

import pytest

from mauntic_jobs.alerts.alert import Cause
from mauntic_jobs.cli.framework.clock_watch import watcher
from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ExitCode, UnavailableError
from mauntic_jobs.installation import Installation
from mauntic_jobs.job import Row
from mauntic_jobs.ops.monitor.check import check
from mauntic_jobs.ops.monitor.conditions import deliveries as watched_deliveries
from mauntic_jobs.ops.monitor.conditions.consumers import consumers_stuck
from mauntic_jobs.ops.monitor.conditions.deliveries import deliveries_deferred, deliveries_held
from mauntic_jobs.ops.monitor.conditions.durations import runs_too_long
from mauntic_jobs.ops.monitor.conditions.slots import slots_missed
from mauntic_jobs.ops.monitor.ledger import watch_ledger
from mauntic_jobs.ops.monitor.watch import watch_all
from mauntic_jobs.runner import claim as claims
from mauntic_jobs.runner.request import Launcher
from mauntic_jobs.runner.run import run
from mauntic_jobs.runner.slot_request import slot_request
from mauntic_jobs.scheduler.due import Round
from mauntic_jobs.scheduler.loop import Loop
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.bullmq.enqueue import QueueJob, add_jobs
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.stores.redis.client import RedisScripts, open_redis
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.catch_up import Which
from tests.alerts.receivers import Receiver, receiver
from tests.scheduler.ticking import TABLE, failing, look, ticking
from tests.support import run_program, utc

NOW = utc("2026-10-05T10:00")
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
HOURLY = ticking("hourly", "0 * * * *", Which.ALL, timedelta(hours=6))


@pytest.fixture
def ready(session: Session) -> Session:
    session.execute(TABLE)
    return session


@pytest.fixture
def inbox() -> Iterator[Receiver]:
    with receiver() as opened:
        yield opened


def _titles(inbox: Receiver) -> list[str]:
    return [request.json["text"].splitlines()[0].strip("*") for request in inbox.received()]


def _told_by(settings: Settings, inbox: Receiver) -> Settings:
    return Settings(**{**settings.model_dump(), "alerts": [{"type": "slack", "url": inbox.url}]})


def test_a_slot_is_overdue_after_five_minutes_and_until_it_is_run(settings: Settings, ready: Session) -> None:
    look(settings, NOW - HOUR + MINUTE, HOURLY)
    assert slots_missed(Installation(settings, NOW + 5 * MINUTE, [HOURLY], session=ready)) == []
    (alert,) = slots_missed(Installation(settings, NOW + 5 * MINUTE + timedelta(seconds=1), [HOURLY], session=ready))
    assert (alert.cause, alert.key, alert.action) == (Cause.SLOT_MISSED, "hourly", "mauntic-jobs schedule run")
    assert "overdue since 2026-10-05 10:00 UTC: its slot waits" in alert.summary
    hourly_clock = Settings(**{**settings.model_dump(), "overdue_after": timedelta(minutes=90)})
    assert slots_missed(Installation(hourly_clock, NOW + 6 * MINUTE, [HOURLY], session=ready)) == []
    look(settings, NOW + 6 * MINUTE, HOURLY)
    assert slots_missed(Installation(settings, NOW + 7 * MINUTE, [HOURLY], session=ready)) == []


def test_slots_that_were_passed_over_are_missed_until_they_are_made_up_for(settings: Settings, ready: Session) -> None:
    look(settings, NOW, HOURLY)
    later = NOW + 8 * HOUR + MINUTE
    look(settings, later, HOURLY)
    (alert,) = slots_missed(Installation(settings, later, [HOURLY], session=ready))
    assert (alert.details["slots"], alert.key) == (2, "hourly")
    assert "2026-10-05T10:00Z/2026-10-05T12:00Z is not covered" in alert.summary
    for slot in (NOW + HOUR, NOW + 2 * HOUR):
        run(replace(slot_request(HOURLY, slot, settings, Launcher.CLI, later), claim_slot=False))
    assert slots_missed(Installation(settings, later, [HOURLY], session=ready)) == []


def test_slots_that_were_passed_over_cost_one_query_for_all(settings: Settings, ready: Session) -> None:
    look(settings, NOW, HOURLY)
    later = NOW + 20 * HOUR + MINUTE
    look(settings, later, HOURLY)
    asked: list[bytes] = []

    class Counting:
        broken = False

        def rows(self, query: bytes, parameters: Any = None) -> list[Row]:
            asked.append(query)
            return ready.rows(query, parameters)

    def found() -> int:
        asked.clear()
        (alert,) = slots_missed(Installation(settings, later, [HOURLY], session=cast("Session", Counting())))
        return int(str(alert.details["slots"]))

    many, queries = found(), len(asked)
    assert many > 10
    for slot in range(1, many):
        run(replace(slot_request(HOURLY, NOW + slot * HOUR, settings, Launcher.CLI, later), claim_slot=False))
    assert (found(), len(asked)) == (1, queries)


def _past_run(session: Session, seconds: float) -> None:
    session.execute(
        b"INSERT INTO mauntic_jobs.runs (job, window_start, window_end, launcher, host, pid, version, fencing_token,"
        b" status, started_at, finished_at)"
        b" SELECT 'hourly', %(at)s, %(at)s + interval '1 hour', 'schedule', 'h', 1, '1',"
        b" nextval('mauntic_jobs.fencing_tokens'), 'succeeded', %(at)s, %(at)s + %(seconds)s * interval '1 second'",
        {"at": NOW - HOUR, "seconds": seconds},
    )


@pytest.mark.parametrize(("usual", "limit"), [(10, 610), (400, 1200)])
def test_a_run_is_too_long_at_three_times_the_usual_and_ten_minutes_more(
    settings: Settings, ready: Session, usual: float, limit: float
) -> None:
    claims.acquire(ready, slot_request(HOURLY, NOW, settings, Launcher.LOOP, NOW), 1)
    ready.execute(b"UPDATE mauntic_jobs.runs SET started_at = %(at)s", {"at": NOW})
    edge = NOW + timedelta(seconds=limit)
    for number in range(5):
        # Of too few runs nothing follows.
        assert runs_too_long(ready, [HOURLY], edge + HOUR) == [], number
        _past_run(ready, usual)
    assert runs_too_long(ready, [HOURLY], edge) == []
    (alert,) = runs_too_long(ready, [HOURLY], edge + timedelta(seconds=1))
    assert alert.summary.startswith("hourly has been running for ")
    assert alert.action == "mauntic-jobs runs show 1"


def _delivery(session: Session, **columns: Any) -> None:
    usual = {"state": "ambiguous", "channel": "email", "created_at": NOW, "updated_at": NOW, "until": None}
    columns = {**usual, "reason": None, **columns}
    session.execute(
        b"INSERT INTO mauntic_jobs.deliveries (organization_id, delivery_id, channel, state, until, created_at,"
        b" updated_at, reason, queue_job, owner, address) VALUES (gen_random_uuid(), gen_random_uuid()::text,"
        b" %(channel)s, %(state)s, %(until)s, %(created_at)s, %(updated_at)s, %(reason)s, 'j', gen_random_uuid(),"
        b" 'jane@example.com')",
        columns,
    )


def test_deliveries_are_ambiguous_for_long_after_half_an_hour(session: Session) -> None:
    _delivery(session)
    _delivery(session, until=NOW + HOUR)
    _delivery(session, channel="sms", updated_at=NOW + MINUTE)
    _delivery(session, state="failed", channel="push")
    assert deliveries_held(session, NOW + timedelta(minutes=30, microseconds=-1)) == []
    (alert,) = deliveries_held(session, NOW + timedelta(minutes=30))
    assert (alert.key, alert.details["deliveries"], alert.details["held"]) == ("email", 2, 1)
    assert "jane" not in str(alert)


def test_deliveries_are_deferred_for_long_half_an_hour_after_they_were_asked_for(session: Session) -> None:
    trouble = {"state": "deferred", "reason": "no provider works at present", "until": NOW + HOUR}
    # Each time that a provider is asked in vain changes them, and makes them no younger.
    _delivery(session, **trouble, updated_at=NOW + 29 * MINUTE)
    _delivery(session, **trouble, channel="sms", created_at=NOW + MINUTE)
    _delivery(session, **{**trouble, "reason": "warm-up: acme.test has sent its 50 messages of the day"})
    _delivery(session, **{**trouble, "reason": "the receiver asks to wait: 450 4.7.1 greylisted"})
    _delivery(session, **{**trouble, "state": "sent"})
    assert deliveries_deferred(session, NOW + timedelta(minutes=30, microseconds=-1)) == []
    (alert,) = deliveries_deferred(session, NOW + timedelta(minutes=30))
    assert (alert.key, alert.details["deliveries"], alert.details["organizations"]) == ("email", 1, 1)
    assert alert.action == "mauntic-jobs deliveries list --state deferred --channel email"
    assert "jane" not in str(alert)


def test_so_many_deliveries_are_looked_at_and_those_that_are_due_first(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_deliveries, "_MAX_COUNTED", 3)
    warm_up = {"state": "deferred", "reason": "warm-up: acme.test has sent its 50 messages of the day"}
    for number in range(5):
        _delivery(session, **warm_up, until=NOW + 12 * HOUR)
        _delivery(session, state="deferred", reason="no provider works at present", until=NOW + number * MINUTE)
        _delivery(session, state="ambiguous", until=NOW if number else None)
    (deferred,) = deliveries_deferred(session, NOW + HOUR)
    assert "no provider has taken 3 or more email messages" in deferred.summary
    (held,) = deliveries_held(session, NOW + HOUR)
    assert (held.details["deliveries"], held.details["held"]) == (3, 1)
    assert "3 or more email deliveries have" in held.summary


@pytest.fixture
def queues(direct_settings: Settings, servers: Servers) -> Settings:
    own = {"redis_url": servers.redis_url, "queue_prefix": f"{{test-{uuid4().hex}}}"}
    return Settings(**{**direct_settings.model_dump(), **own})


@pytest.fixture
def redis(queues: Settings) -> Iterator[RedisScripts]:
    with closing(open_redis(queues)) as opened:
        yield opened


def _ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)


def _wait(redis: RedisScripts, settings: Settings, queue: str, job: str, since: datetime) -> str:
    add_jobs(redis, settings.queue_prefix, [QueueJob(queue, job, "x", {})], _ms(since))
    return f"{settings.queue_prefix}:{queue}"


def test_a_consumer_is_stuck_when_nothing_was_done_for_ten_minutes_while_jobs_wait(
    queues: Settings, redis: RedisScripts
) -> None:
    def stuck(now: datetime) -> list[str]:
        return [alert.key for alert in consumers_stuck(Installation(queues, now, [HOURLY], redis=redis))]

    assert stuck(NOW) == []
    base = _wait(redis, queues, "delivery:send-email", "a", NOW)
    _wait(redis, queues, "delivery:send-email", "b", NOW + HOUR)
    edge = NOW + 10 * MINUTE
    assert stuck(edge) == []
    assert stuck(edge + MINUTE) == [base]
    (alert,) = consumers_stuck(Installation(queues, edge + MINUTE, [HOURLY], redis=redis))
    assert (alert.action, alert.details["waiting"]) == ("mauntic-jobs deliver email", 2)
    for moved in ("completed", "failed"):
        redis.command("ZADD", f"{base}:{moved}", _ms(NOW + MINUTE), "z")
        assert stuck(edge + MINUTE) == []
        assert stuck(edge + 2 * MINUTE) == [base]
        redis.command("DEL", f"{base}:{moved}")
    redis.command("LPUSH", f"{base}:active", "y")
    redis.command("HSET", f"{base}:y", "processedOn", _ms(NOW + MINUTE))
    assert (stuck(edge + MINUTE), stuck(edge + 2 * MINUTE)) == ([], [base])


def test_a_scheduled_job_that_runs_for_long_does_not_make_its_queue_stuck(
    queues: Settings, redis: RedisScripts
) -> None:
    base = _wait(redis, queues, HOURLY.queue, "a", NOW)
    later = NOW + HOUR
    assert [alert.action for alert in consumers_stuck(Installation(queues, later, [HOURLY], redis=redis))] == [
        "mauntic-jobs work jobs:hourly"
    ]
    redis.command("LPUSH", f"{base}:active", "y")
    assert consumers_stuck(Installation(queues, later, [HOURLY], redis=redis)) == []


def test_each_thing_is_told_once_and_its_end_once(
    queues: Settings, redis: RedisScripts, inbox: Receiver, direct_settings: Settings
) -> None:
    settings = _told_by(queues, inbox)
    with connect(direct_settings) as session:
        session.execute(TABLE)
        look(settings, NOW - HOUR + MINUTE, HOURLY)
        _delivery(session)
        base = _wait(redis, queues, "delivery:send-email", "a", NOW)
        for minute in range(31, 34):
            watch_all(Installation(settings, NOW + minute * MINUTE, [HOURLY], session=session), pytest.fail)
        assert sorted(_titles(inbox)) == [
            f"[critical] A job waits on {base}, the next for 31m, and nothing is done there: is its consumer running?",
            "[error] 1 email delivery has been ambiguous for 30 minutes; it needs a decision.",
            "[error] hourly is overdue since 2026-10-05 10:00 UTC: its slot waits for a clock to run them.",
        ]
        session.execute(b"DELETE FROM mauntic_jobs.deliveries")
        redis.command("DEL", f"{base}:wait")
        look(settings, NOW + 34 * MINUTE, HOURLY)
        for minute in range(34, 36):
            watch_all(Installation(settings, NOW + minute * MINUTE, [HOURLY], session=session), pytest.fail)
    assert sorted(_titles(inbox)) == [
        f"[over] consumer stuck:{base}", "[over] deliveries held:email", "[over] slot missed:hourly"
    ]  # fmt: skip


def test_a_redis_that_is_away_hides_nothing_else_and_ends_nothing(
    settings: Settings, ready: Session, inbox: Receiver
) -> None:
    look(settings, NOW - HOUR + MINUTE, HOURLY)
    lost = Settings(**{**_told_by(settings, inbox).model_dump(), "redis_url": "redis://127.0.0.1:1/0"})
    complaints: list[str] = []
    watched = watch_all(Installation(lost, NOW + 6 * MINUTE, [HOURLY], session=ready), complaints.append)
    assert [alert.cause for alert in watched.found] == [Cause.SLOT_MISSED]
    causes = [complaint.removeprefix("monitor: cannot tell of ").partition(":")[0] for complaint in complaints]
    assert causes == ["redis lost data", "consumer stuck", "dead letters"]
    assert watched.exit_code == ExitCode.UNAVAILABLE


def test_a_defect_in_one_look_hides_nothing_else(
    settings: Settings, ready: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("of the test")

    look(settings, NOW - HOUR + MINUTE, HOURLY)
    monkeypatch.setattr("mauntic_jobs.ops.monitor.watch.second_clocks", fail)
    complaints: list[str] = []
    watched = watch_all(Installation(settings, NOW + 6 * MINUTE, [HOURLY], session=ready), complaints.append)
    assert [alert.cause for alert in watched.found] == [Cause.SLOT_MISSED]
    assert complaints == ["monitor: cannot tell of second clock: KeyError: 'of the test'"]
    assert watched.exit_code == ExitCode.FAILED


def test_a_lost_connection_to_postgres_ends_the_look(direct_settings: Settings) -> None:
    with connect(direct_settings) as session, connect(direct_settings) as other:
        own = session.row(b"SELECT pg_backend_pid() AS pid")
        other.rows(b"SELECT pg_terminate_backend(%(pid)s)", own)
        with pytest.raises(UnavailableError):
            watch_all(Installation(direct_settings, NOW, [HOURLY], session=session), pytest.fail)


def _asked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    asked: list[bytes] = []

    def counted(name: str) -> None:
        original = getattr(Session, name)

        def ask(self: Session, query: bytes, *rest: object) -> object:
            asked.append(query)
            return original(self, query, *rest)

        monkeypatch.setattr(Session, name, ask)

    for name in ("rows", "execute", "transaction"):
        counted(name)
    return asked


def test_with_nothing_due_and_nothing_wrong_the_clock_makes_two_more_queries(
    direct_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    yearly = replace(HOURLY, cron="0 0 1 1 *")
    watch = watcher([yearly], direct_settings, [])
    round_ = Round({"hourly": yearly}, direct_settings, clock.now, pytest.fail, watch=watch)
    assert list(round_.run()) == []
    asked = _asked(monkeypatch)
    assert list(round_.run()) == []
    assert len(asked) == 4, "the time and the slots, then the time and the alerts"


def test_the_loop_watches_after_each_look_and_while_something_runs(direct_settings: Settings) -> None:
    now, watched = [NOW], SimpleQueue[int]()
    loop = Loop({"hourly": HOURLY}, direct_settings, lambda: now[0], pytest.fail, MINUTE, watch=lambda: watched.put(1))

    def awake(minutes: int) -> int:
        loop._awake_at = NOW + minutes * MINUTE
        loop._watch_beside()
        if loop._watcher is not None:
            loop._watcher.join(60)
        return watched.qsize()

    assert [awake(minutes) for minutes in (0, 1, 60)] == [1, 1, 1]
    loop._watch_at = NOW + 61 * MINUTE
    loop._children._processes["hourly"] = subprocess.Popen(["true"])
    assert [awake(minutes) for minutes in (61, 65, 66)] == [2, 2, 3]
    loop._children._processes.pop("hourly").wait()


def test_the_clock_tells_of_a_failure_that_its_own_process_could_not(
    settings: Settings, ready: Session, inbox: Receiver
) -> None:
    claim = claims.acquire(ready, slot_request(HOURLY, NOW, settings, Launcher.LOOP, NOW), 1)
    claims.fail(ready, claim, "its process died before it could tell")
    told = _told_by(settings, inbox)
    ready.execute(b"UPDATE mauntic_jobs.runs SET started_at = %(at)s", {"at": NOW})
    for minute in range(3):
        watch_ledger(Installation(told, NOW + minute * MINUTE, [HOURLY], session=ready))
    assert len(_titles(inbox)) == 1


def test_a_second_host_says_what_is_wrong_and_changes_nothing(settings: Settings, ready: Session) -> None:
    broken = replace(HOURLY, name="broken", run=failing)
    look(settings, NOW - HOUR + MINUTE, HOURLY, broken)
    assert check(Installation(settings, NOW, [HOURLY, broken], session=ready)) == []
    look(settings, NOW + MINUTE, broken)
    ready.execute(b"DELETE FROM mauntic_jobs.alerts")
    wrong = check(Installation(settings, NOW + 6 * MINUTE, [HOURLY, broken], session=ready))
    assert [(alert.key, alert.cause) for alert in wrong] == [
        ("hourly", Cause.SLOT_MISSED), ("broken", Cause.JOB_FAILED)
    ]  # fmt: skip
    assert ready.rows(b"SELECT FROM mauntic_jobs.alerts") == []


def test_the_commands_say_it_in_lines_in_json_and_by_their_exit_codes(
    direct_settings: Settings, inbox: Receiver
) -> None:
    well = run_program("monitor", "check", settings=direct_settings)
    assert (well.returncode, well.stdout) == (0, "6 jobs are well\n")
    assert json.loads(run_program("monitor", "check", "--json", settings=direct_settings).stdout) == []
    with connect(direct_settings) as session:
        session.execute(
            b"INSERT INTO mauntic_jobs.schedules (job, cron, settled) VALUES ('aggregate-hourly', '0 * * * *',"
            b" clock_timestamp() - interval '3 hours')"
        )
    wrong = run_program("monitor", "check", settings=direct_settings)
    assert wrong.returncode == ExitCode.FAILED
    assert "mauntic-jobs schedule run" in wrong.stdout
    (row,) = json.loads(run_program("monitor", "check", "--json", settings=direct_settings).stdout)
    assert (row["about"], row["cause"]) == ("aggregate-hourly", "slot missed")
    alerts = json.dumps([{"type": "slack", "url": inbox.url}])
    inbox.mode = "500"
    once = run_program("monitor", "run", "--once", "--json", settings=direct_settings, MAUNTIC_ALERTS=alerts)
    assert once.returncode == ExitCode.ALERT_UNDELIVERABLE
    assert json.loads(once.stdout)["alerts"][0]["about"] == "aggregate-hourly"
    assert "answered 500" in once.stderr
    listed = run_program("alerts", "list", "--open", "--since", "1h", settings=direct_settings)
    assert "no channel: slack 1: answered 500" in listed.stdout
    tried = run_program("alerts", "test", "--json", settings=direct_settings, MAUNTIC_ALERTS=alerts)
    assert (tried.returncode, json.loads(tried.stdout)[0]["problem"]) == (74, "answered 500")
    inbox.mode = "ok"
    assert run_program("alerts", "test", settings=direct_settings, MAUNTIC_ALERTS=alerts).returncode == 0
    assert run_program("alerts", "test", "--channel", "2", MAUNTIC_ALERTS=alerts).returncode == ExitCode.USAGE
    assert run_program("alerts", "test").returncode == ExitCode.CONFIGURATION
    away = run_program("monitor", "check", DATABASE_URL="postgresql://127.0.0.1:1/x")
    assert away.returncode == ExitCode.UNAVAILABLE
