"""`status`: what it says of a platform that is well, and of one that is not."""

import json
import os
import pty
import signal
import subprocess
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from rich.console import Console

from mauntic_jobs.cli.status.screen import screen
from mauntic_jobs.delivery.ledger.waits import PATTERNS
from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ExitCode, UnavailableError
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.ops.status.findings import findings
from mauntic_jobs.ops.status.read import InstallationStatus, read_status
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.bullmq.enqueue import QueueJob, add_jobs
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.window import naive
from tests.support import build_program, command, environment, organization, run_program

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
PROGRAM: Any = build_program()


class Platform:
    """A database and a queue prefix of the test's own, and what may happen on them."""

    def __init__(self, settings: Settings, redis_url: str) -> None:
        own = {"redis_url": redis_url, "queue_prefix": f"{{test-{uuid4().hex}}}"}
        self.settings = Settings(**{**settings.model_dump(), **own})
        self.now = clock.now().replace(microsecond=0)

    def write(self, query: str, **parameters: Any) -> None:
        with connect(self.settings) as session:
            session.execute(query.encode(), parameters)

    def backfill(self, state: str, reason: str | None = None, ago: timedelta = timedelta()) -> None:
        """Record a backfill of two days, which a process worked on so long ago."""
        self.write(
            "WITH made AS (INSERT INTO mauntic_jobs.backfills (job, range_start, range_end, reprocess, newest_first,"
            " parallel, stop_after_failures, state, reason, worked_at, host, pid) VALUES ('aggregate-hourly',"
            " '2026-10-05', '2026-10-07', '{all}', false, 1, 5, %(state)s, %(reason)s, %(at)s, 'h', 1) RETURNING id)"
            " INSERT INTO mauntic_jobs.backfill_windows (backfill_id, position, window_start, window_end, found)"
            " SELECT id, n, date '2026-10-04' + n, date '2026-10-05' + n, 'missing'"
            " FROM made CROSS JOIN generate_series(1, 2) AS n",
            state=state,
            reason=reason,
            at=self.now - ago,
        )

    def ask(self, *words: Any) -> Any:
        with closing(open_redis(self.settings)) as redis:
            return redis.command(*words)

    def run(self, job: str, status: str = "succeeded", ago: timedelta = MINUTE, **columns: Any) -> None:
        started = self.now - ago
        finished = None if status == "running" else started + timedelta(seconds=2)
        own = {"slot": None, "claims_slot": False, "error": None, "finished_at": finished, "launcher": "cron"}
        values = {"job": job, "status": status, "started_at": started, **own, "host": "a", **columns}
        names = ", ".join(values)
        marks = ", ".join(f"%({name})s" for name in values)
        self.write(
            f"INSERT INTO mauntic_jobs.runs ({names}, pid, version, fencing_token, window_start, window_end)"
            f" VALUES ({marks}, 1, '0', 1, '2026-01-01', '2026-01-02')",
            **values,
        )

    def settle(self, job: str, ago: timedelta = timedelta()) -> None:
        """Let all slots be accounted for that were longer ago."""
        self.write(
            "INSERT INTO mauntic_jobs.schedules (job, cron, settled) VALUES (%(job)s, %(cron)s, %(at)s)",
            job=job,
            cron=JOBS[job].cron,
            at=self.now - ago,
        )

    def delivery(self, state: str, *, until: datetime | None = None, reason: str | None = None) -> None:
        self.write(
            "INSERT INTO mauntic_jobs.deliveries"
            " (organization_id, delivery_id, channel, state, until, reason, queue_job, owner, updated_at)"
            " VALUES (%(org)s, %(id)s, 'email', %(state)s, %(until)s, %(reason)s, 'j', %(owner)s, %(at)s)",
            org=organization(1),
            id=uuid4().hex,
            state=state,
            until=until,
            reason=reason,
            owner=uuid4(),
            at=self.now - HOUR,
        )

    def enqueue(self, queue: str, *, ago: timedelta) -> str:
        job = uuid4().hex + "x"
        with closing(open_redis(self.settings)) as redis:
            at = round((self.now - ago).timestamp() * 1000)
            add_jobs(redis, self.settings.queue_prefix, [QueueJob(queue, job, "send", {})], at)
        return job

    def domain(self, name: str, sent: int) -> None:
        self.write(
            "INSERT INTO delivery.sending_domains (organization_id, domain, created_at)"
            " VALUES (%(org)s, %(name)s, %(at)s)",
            org=organization(1),
            name=name,
            at=naive(self.now - HOUR),
        )
        self.write(
            "INSERT INTO mauntic_jobs.deliveries"
            " (organization_id, delivery_id, channel, state, queue_job, owner, domain, sending_at)"
            " SELECT %(org)s, %(name)s || number, 'email', 'sent', 'j', gen_random_uuid(), %(name)s, %(at)s"
            " FROM generate_series(1, %(sent)s) AS number",
            org=organization(1),
            name=name,
            sent=sent,
            at=self.now,
        )

    def look(self) -> InstallationStatus:
        return read_status(self.settings, list(JOBS.values()), self.now)

    def found(self) -> dict[str, bool]:
        """Return what is found, by subject and text, and whether it is urgent."""
        return {f"{each.subject}: {each.text}": each.urgent for each in findings(self.look())}

    def program(self, *arguments: str, **changes: str) -> Any:
        assert self.settings.redis_url
        own = {"REDIS_URL": self.settings.redis_url.get_secret_value()}
        own["MAUNTIC_QUEUE_PREFIX"] = self.settings.queue_prefix
        return run_program("status", *arguments, settings=self.settings, **{**own, **changes})


@pytest.fixture
def platform(direct_settings: Settings, servers: Servers) -> Platform:
    return Platform(direct_settings, servers.redis_url)


def lines(status: InstallationStatus, width: int) -> list[str]:
    console = Console(width=width, color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(screen(status, width))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_platform_that_is_well_is_one_quiet_screen(platform: Platform) -> None:
    for name in JOBS:
        platform.run(name, ago=2 * HOUR)
        platform.run(name, ago=HOUR)
    platform.delivery("sent")
    status = platform.look()
    shown = lines(status, 80)
    assert findings(status) == []
    assert "all is well" in shown[0]
    assert len(shown) <= 24
    assert max(map(len, shown)) <= 80
    assert [line.split()[:3] for line in shown if line.startswith("aggregate-hourly")] == [
        ["aggregate-hourly", "succeeded", "1h"]
    ]
    assert sum("delivery:send-email" in line for line in shown) == 1


def test_what_somebody_must_act_on_is_urgent_and_comes_first(platform: Platform) -> None:
    platform.run("generate-daily-reports", "failed", 2 * HOUR, error="no such column")
    platform.delivery("ambiguous")
    platform.delivery("ambiguous", until=platform.now)
    platform.enqueue("delivery:send-sms", ago=5 * MINUTE)
    platform.enqueue("journey:execute-step", ago=3 * HOUR)
    platform.enqueue("delivery:send-email", ago=timedelta(seconds=30))
    platform.settle("aggregate-hourly", ago=3 * HOUR)
    found = platform.found()
    assert all(found.values())
    texts = "\n".join(found)
    assert "generate-daily-reports: failed 2h ago: no such column" in texts
    assert "aggregate-hourly: overdue, for up to 2h: is the clock running?" in texts
    assert "deliveries: 1 may have been sent or not, for up to 1h: a human must decide" in texts
    assert "delivery:send-sms: 1 waiting for 5m, and nothing takes them" in texts
    assert "journey:execute-step: 1 waiting for 3h" in texts
    assert len(found) == 5
    assert "5 to act on" in lines(platform.look(), 80)[0]


def test_what_is_worth_a_look_is_not_urgent(platform: Platform) -> None:
    platform.run("aggregate-hourly", "lost", error="no sign of life")
    for name in ("segment-trigger-eval", "warmup-daily-reset"):
        platform.settle(name)
    platform.run("segment-trigger-eval", "missed", claims_slot=True, slot=platform.now - 2 * HOUR)
    for number, host in enumerate(("a", "b")):
        platform.run("warmup-daily-reset", host=host, claims_slot=True, slot=platform.now - number * HOUR)
    for number in range(3):
        platform.run("stale-execution-cleanup", ago=(number + 2) * HOUR)
    platform.run("stale-execution-cleanup", "running", 5 * MINUTE, heartbeat_at=platform.now)
    platform.backfill("active", ago=3 * MINUTE)
    platform.backfill("active")
    platform.backfill("paused", "by ops")
    platform.delivery("deferred", until=platform.now, reason="no provider works at present")
    platform.delivery("deferred", until=platform.now, reason="warm-up: acme.test has sent its 50 messages of the day")
    platform.delivery("deferred", until=platform.now, reason="the receiver asks to wait: 450 4.7.1 greylisted")
    base = f"{platform.settings.queue_prefix}:delivery:send-push"
    platform.ask("ZADD", f"{base}:failed", round((platform.now - HOUR).timestamp() * 1000), "j1")
    platform.ask("HSET", f"{base}:meta", "paused", 1)
    found = platform.found()
    assert not any(found.values())
    assert set(found) == {
        "aggregate-hourly: lost: no sign of life",
        "stale-execution-cleanup: runs for 5m, and usually takes 2s",
        "aggregate-hourly: backfill 1: 2 windows of 2 left, and no process works on it for 3m",
        "aggregate-hourly: backfill 3 is paused, 2 windows of 2 left: by ops",
        "segment-trigger-eval: slots missed within 30 days: 1",
        "warmup-daily-reset: a second clock is on: cron on a and cron on b",
        "deliveries: 1 deferred for want of a provider that works",
        "delivery:send-push: paused by the platform: nothing is taken until it is resumed there",
        "delivery:send-push: dead letters: 1, the oldest 1h old",
    }
    assert "nothing is urgent" in lines(platform.look(), 80)[0]


def test_domains_near_their_limit_are_named(platform: Platform) -> None:
    name = f"{uuid4().hex}.test"
    platform.domain(name, 40)
    platform.domain(f"far.{name}", 39)
    (domain,) = platform.look().domains or []
    assert (domain.name, domain.sent, domain.limit) == (name, 40, 50)
    assert any("40 of 50" in line for line in lines(platform.look(), 120))


def test_what_the_node_engine_sent_today_counts_for_a_domain(platform: Platform) -> None:
    name = f"{uuid4().hex}.test"
    platform.domain(name, 30)
    event = (
        "INSERT INTO delivery.delivery_events (job_id, organization_id, contact_id, channel, event_type, created_at)"
        " SELECT gen_random_uuid(), %(org)s, gen_random_uuid(), 'email', 'sent', %(at)s FROM generate_series(1, 10)"
    )
    platform.write(event, org=organization(1), at=naive(platform.now - timedelta(days=2)))
    assert platform.look().domains == []
    platform.write(event, org=organization(1), at=naive(platform.now))
    assert [(each.name, each.sent) for each in platform.look().domains or []] == [(name, 40)]


@pytest.mark.parametrize("store", ["postgres", "redis"])
def test_a_store_that_is_away_leaves_the_others_half(platform: Platform, store: str) -> None:
    away = {"postgres": "DATABASE_URL", "redis": "REDIS_URL"}
    addresses = {"postgres": "postgresql://a@127.0.0.1:1/b", "redis": "redis://127.0.0.1:1"}
    done = platform.program("--json", **{away[store]: addresses[store]})
    assert done.returncode == ExitCode.UNAVAILABLE, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["jobs"] is None, seen["queues"] is None) == (store == "postgres", store == "redis")
    assert list(seen["problems"]) == [store]
    (finding,) = seen["findings"]
    assert (finding["subject"], finding["urgent"]) == (store, True)


def test_half_a_screen_says_what_is_missing() -> None:
    error = UnavailableError("Cannot reach Postgres.")
    shown = "\n".join(lines(InstallationStatus(clock.now(), queues=[], problems={"postgres": error}), 80))
    assert "1 to act on" in shown
    assert "! postgres: Cannot reach Postgres.\n    mauntic-jobs doctor" in shown
    assert ("delivery" in shown, "history" in shown) == (False, False)


def test_json_has_the_documented_fields(platform: Platform) -> None:
    platform.delivery("ambiguous")
    platform.domain(f"{uuid4().hex}.test", 50)
    seen = json.loads(platform.program("--json").stdout)
    text = (Path(__file__).parents[3] / "docs" / "status.md").read_text()
    assert seen["schema"] == 1
    documented = {name for name in _names(seen) if f"`{name}`" in text}
    assert _names(seen) - documented == set()


def _names(value: Any) -> set[str]:
    """Return the names of all fields, but those of counters, which are the job's own."""
    if isinstance(value, dict):
        inner = {name: each for name, each in value.items() if name not in ("counters", "problems")}
        return set(value).union(*(_names(each) for each in inner.values()))
    return set().union(*map(_names, value)) if isinstance(value, list) else set()


def test_off_a_terminal_it_is_plain_and_unbroken(platform: Platform) -> None:
    error = "a reason that is far longer than eighty columns " * 5
    platform.run("aggregate-hourly", "failed", error=error.strip())
    done = platform.program()
    assert done.returncode == ExitCode.DONE
    assert "\x1b" not in done.stdout
    assert error.strip() in done.stdout
    watched = platform.program("--watch")
    assert (watched.returncode, watched.stdout) == (ExitCode.USAGE, "")
    assert platform.program("--every", "0s").returncode == ExitCode.USAGE


def test_watched_it_goes_on_until_ctrl_c(platform: Platform) -> None:
    ours, theirs = pty.openpty()
    watching = subprocess.Popen(
        command("status", "--watch", "--every", "1s"), stdout=theirs, env=environment(platform.settings, TERM="xterm")
    )
    os.close(theirs)
    shown = b""
    while shown.count(b"aggregate-hourly") < 2:
        shown += os.read(ours, 10_000)
    watching.send_signal(signal.SIGINT)
    with suppress(OSError):  # the terminal is gone with the program
        while os.read(ours, 10_000):
            pass
    assert watching.wait() == ExitCode.DONE
    os.close(ours)


def test_without_a_redis_there_are_no_queues_and_no_problem(direct_settings: Settings) -> None:
    status = read_status(direct_settings, list(JOBS.values()), clock.now())
    assert (status.queues, status.problems) == (None, {})


def test_open_alerts_are_urgent_by_their_severity(platform: Platform) -> None:
    for number, (severity, closed) in enumerate((("error", None), ("warning", None), ("critical", platform.now))):
        platform.write(
            "INSERT INTO mauntic_jobs.alerts"
            " (fingerprint, cause, severity, summary, action, opened_at, seen_at, closed_at)"
            " VALUES (%(number)s, 'missed-slot', %(severity)s, %(severity)s, 'look', %(at)s, %(at)s, %(closed)s)",
            number=str(number),
            severity=severity,
            at=platform.now,
            closed=closed,
        )
    assert platform.found() == {"missed-slot: error": True, "missed-slot: warning": False}


def test_millions_of_settled_deliveries_are_not_read(platform: Platform) -> None:
    with connect(platform.settings) as session:
        session.execute(
            b"INSERT INTO mauntic_jobs.deliveries"
            b" (organization_id, delivery_id, channel, state, queue_job, owner, updated_at)"
            b" SELECT gen_random_uuid(), n::text, 'email', CASE WHEN n %% 100 = 0 THEN 'failed' ELSE 'sent' END, 'j',"
            b" gen_random_uuid(), %(at)s FROM generate_series(1, 30000) AS n",
            {"at": platform.now - timedelta(days=2)},
        )
        session.execute(b"ANALYZE mauntic_jobs.deliveries")
        query = b"EXPLAIN " + statements("status")["deliveries"]
        asked = {"most": 100_000, "since": platform.now - HOUR, "recipients": ["bounced"]}
        waits = {"waits": PATTERNS, "wait_names": PATTERNS}
        plan = "\n".join(row["QUERY PLAN"] for row in session.rows(query, {**asked, **waits}))
    assert "Seq Scan on deliveries" not in plan


def test_the_commands_it_names_are_there(platform: Platform) -> None:
    platform.run("aggregate-hourly", "failed")
    platform.delivery("ambiguous")
    platform.delivery("deferred")
    platform.enqueue("delivery:send-sms", ago=5 * MINUTE)
    platform.enqueue("analytics:aggregate-hourly", ago=5 * MINUTE)
    named = [each.command.split()[1:] for each in findings(platform.look()) if each.command]
    assert len(named) == 5
    for words in named:
        node = PROGRAM
        while hasattr(node, "commands"):
            node = node.commands[words.pop(0)]
