"""docs/cut-over.md, walked through with a platform that goes on in between: no row is doubled, and none is lost."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from typer.testing import CliRunner

from mauntic_jobs.errors import ExitCode
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.ops.doctor.check import Service, Site
from mauntic_jobs.ops.doctor.checks import platform
from mauntic_jobs.ops.doctor.finding import Finding, FindingSeverity
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping import clock
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.interop.node import HERE, PACKAGES, node
from tests.support import APP, Event, add_events, contact, reference_rollups, stored_rollups, utc, wait_until

_PAGE = Path(__file__).parent.parent.parent / "docs/cut-over.md"
_SECTIONS = dict(re.findall(r"^## (.+?)\n(.+?)(?=^## |\Z)", _PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE))
_HOUR = timedelta(hours=1)
_TEN = utc("2026-11-05T10:00")
_WALKED = [
    "Preparation",
    "Hourly aggregation",
    "Daily reports and monthly usage",
    "Segments, stale executions, warm-up",
    "The delivery engine",
]


class Operator:
    """Who enters the page's commands, at the time that the clock shows."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self._world = world
        self._patch = monkeypatch

    def at(self, now: datetime) -> "Operator":
        self._patch.setattr(clock, "now", lambda: now)
        return self

    def enter(self, line: str) -> Any:
        settings = self._world.settings
        assert settings.redis_url
        assert settings.database_url
        variables = {
            "DATABASE_URL": settings.database_url.get_secret_value(),
            "REDIS_URL": settings.redis_url.get_secret_value(),
            "MAUNTIC_QUEUE_PREFIX": settings.queue_prefix,
            "MAUNTIC_ALLOWED_NETWORKS": "127.0.0.0/8",
        }
        done = CliRunner().invoke(APP, line.split()[1:], prog_name="mauntic-jobs", env=variables)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    def walk(self, title: str, *, back: bool = False) -> list[str]:
        """Enter the commands of a section, those up to the way back or those of it; return the lines."""
        forth, _, way_back = _SECTIONS[title].partition("**Way back**")
        lines = re.findall(r"^ *\$ (.+)$", way_back if back else forth, re.MULTILINE)
        for line in lines:
            done = self.enter(line)
            allowed = {ExitCode.DONE, ExitCode.FAILED} if line == "mauntic-jobs doctor" else {ExitCode.DONE}
            assert done.exit_code in allowed, f"{line}: {done.output}"
        return lines


@pytest.fixture
def operator(world: World, monkeypatch: pytest.MonkeyPatch) -> Operator:
    return Operator(world, monkeypatch)


def test_every_section_is_walked_through() -> None:
    assert list(_SECTIONS) == _WALKED


def _platform_aggregates(world: World, hour: datetime) -> None:
    """Do what the platform's hourly job does: add the counts of the hour that begins then to the day's rows."""
    add = (
        "INSERT INTO analytics.event_aggregates AS day (organization_id, date, event_type, count, unique_count)"
        " SELECT organization_id, %(hour)s::date, event_type, count(*), count(DISTINCT contact_id)"
        " FROM analytics.contact_activity WHERE created_at >= %(hour)s AND created_at < %(hour)s + interval '1 hour'"
        " GROUP BY organization_id, event_type"
        " ON CONFLICT (organization_id, date, event_type, channel)"
        " DO UPDATE SET count = day.count + EXCLUDED.count, unique_count = day.unique_count + EXCLUDED.unique_count"
    )
    world.write(add, hour=hour.replace(tzinfo=None))


class Events:
    """The raw events, and the rollups that they make."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._all: list[Event] = []

    def open_emails(self, begin: datetime, count: int) -> None:
        minute = timedelta(minutes=1)
        made = [
            Event(self._world.organization, contact(n), "email_opened", begin + n % 30 * minute) for n in range(count)
        ]
        add_events(self._world.session, made)
        self._all += made

    def are_counted(self) -> bool:
        return stored_rollups(self._world.session) == reference_rollups(self._all)

    def counts(self) -> list[int]:
        return [count for count, _ in reference_rollups(self._all).values()]


@pytest.fixture
def events(world: World) -> Events:
    return Events(world)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_hourly_aggregation_is_taken_over(world: World, operator: Operator, events: Events, package: str) -> None:
    address = (package, f"{world.settings.queue_prefix}:analytics", "aggregate-hourly", _url(world))
    node("scheduler.mjs", *address, "upsert", "0 * * * *", "hourly-event-aggregation")
    for n in range(3):
        events.open_emails(_TEN - (3 - n) * _HOUR, 10 + n)
        _platform_aggregates(world, _TEN - (3 - n) * _HOUR)
    # The platform's job ran twice, as it does after a restart.
    _platform_aggregates(world, _TEN - _HOUR)
    operator.at(_TEN + timedelta(minutes=5)).walk("Preparation")
    assert not events.are_counted()
    operator.walk("Hourly aggregation")
    assert events.are_counted()
    assert [each["key"] for each in node("scheduler.mjs", *address, "list")[0]] == ["aggregate-hourly"]

    # The platform's worker has a cron of its own, which nobody has stopped.
    events.open_emails(_TEN + timedelta(minutes=6), 20)
    _platform_aggregates(world, _TEN)
    done = operator.at(_TEN + _HOUR + timedelta(seconds=5)).enter(_hour(_TEN))
    assert done.exit_code == ExitCode.PARTIAL
    assert "another program has added the 20 events of 10:00-11:00 to the rollups of 2026-11-05" in done.output
    assert "docs/cut-over.md" in done.output
    findings = json.loads(operator.enter("mauntic-jobs doctor --json").stdout)["findings"]
    (found,) = [each for each in findings if each["area"] == "platform" and each["severity"] == "error"]
    assert "raised the daily rollups of 2026-11-05 by 20 events" in found["what"]
    assert events.are_counted()

    done = operator.at(_TEN + 2 * _HOUR + timedelta(seconds=5)).enter(_hour(_TEN + _HOUR))
    assert (done.exit_code, events.are_counted()) == (ExitCode.DONE, True)
    operator.walk("Hourly aggregation", back=True)
    assert node("scheduler.mjs", *address, "list") == [[]]
    events.open_emails(_TEN + 2 * _HOUR + timedelta(minutes=1), 7)
    _platform_aggregates(world, _TEN + 2 * _HOUR)
    assert [count for count, _ in stored_rollups(world.session).values()] == events.counts()


def _hour(begin: datetime) -> str:
    """Return the command that a clock runs for an hour: slots are for a host whose clock is right."""
    return f"mauntic-jobs aggregate-hourly --window {begin:%Y-%m-%dT%H:%M}/{begin + _HOUR:%Y-%m-%dT%H:%M}"


def test_reports_and_usage_are_taken_over(world: World, operator: Operator, events: Events) -> None:
    day = utc("2026-11-04T12:00")
    events.open_emails(day, 12)
    operator.at(_TEN).walk("Preparation")
    operator.walk("Daily reports and monthly usage")
    insert = (
        "INSERT INTO analytics.event_aggregates (organization_id, date, event_type, channel, count, unique_count)"
        " SELECT organization_id, date_trunc('month', created_at)::date, 'monthly:' || event_type, 'monthly_summary',"
        " count(*), count(DISTINCT contact_id) FROM analytics.contact_activity GROUP BY 1, 2, 3"
    )
    # November is not over, and ours has written October only: the platform's insert passes, once.
    world.write(insert)
    with pytest.raises(Exception, match="mauntic_jobs_event_aggregates_key"):
        world.write(insert)


def test_what_lets_nobody_enter_is_taken_over(operator: Operator) -> None:
    operator.at(_TEN).walk("Segments, stale executions, warm-up")


def test_a_refused_insert_of_the_platform_is_named(world: World) -> None:
    base = f"{world.settings.queue_prefix}:analytics:generate-daily-reports"
    reason = 'duplicate key value violates unique constraint "mauntic_jobs_campaign_daily_stats_key"'
    world.ask("HSET", f"{base}:1", "failedReason", reason, "data", "{}")
    world.ask("ZADD", f"{base}:failed", round(clock.now().timestamp() * 1000), "1")
    (found,) = _findings(world)
    assert found.severity is FindingSeverity.ERROR
    assert f"1 job of {base} failed in another program" in found.what


@pytest.mark.parametrize("package", PACKAGES)
def test_the_engine_is_taken_over_and_given_back(world: World, sink: Sink, operator: Operator, package: str) -> None:
    campaign = world.campaign(30)
    contacts = [world.contact() for _ in range(30)]
    messages = [
        world.message(f"d{n}", jobId=str(campaign), contactId=str(contacts[n]), emailAddress=f"c{n}@example.com")
        for n in range(30)
    ]
    sent_by_node = _node_sends(world, package, messages[:10])
    with _node_engine(world, package):
        (found,) = _findings(world)
        assert f"takes messages from {world.base}" in found.what
    # The producer repeats itself, as producers do.
    world.add(*messages[:5], *messages[10:20])
    operator.walk("The delivery engine")
    assert sorted(world.states()) == sorted(f"d{n}" for n in [*range(5), *range(10, 20)])
    sent_by_node += _node_sends(world, package, messages[15:])
    sent = [recipient for message in sink.messages() for recipient in message.recipients] + sent_by_node
    assert sorted(sent) == sorted(f"c{n}@example.com" for n in range(30))
    (job,) = world.session.rows(b"SELECT status, sent_count, failed_count FROM delivery.delivery_jobs")
    assert job == {"status": "sent", "sent_count": 30, "failed_count": 0}
    assert _findings(world) == []


def _node_sends(world: World, package: str, messages: list[dict[str, Any]]) -> list[str]:
    """Have a Node engine work on messages until it has seen all, and write down what it sent as it does."""
    world.add(*messages)
    lines = node("engine.mjs", *_address(world, package), str(len(messages)), "sent")
    sent = [line["data"] for line in lines if line["did"] == "sent"]
    for data in sent:
        world.write(
            "INSERT INTO delivery.delivery_events (job_id, organization_id, contact_id, channel, event_type)"
            " VALUES (%(job)s, %(organization)s, %(contact)s, 'email', 'sent')",
            job=UUID(data["jobId"]),
            contact=UUID(data["contactId"]),
        )
        world.write(
            "UPDATE delivery.delivery_jobs SET sent_count = sent_count + 1,"
            " status = CASE WHEN sent_count + 1 >= recipient_count THEN 'sent' ELSE 'sending' END WHERE id = %(job)s",
            job=UUID(data["jobId"]),
        )
    return [data["emailAddress"] for data in sent]


@contextmanager
def _node_engine(world: World, package: str) -> Iterator[None]:
    """Let a Node engine wait for messages."""
    command = ["node", "engine.mjs", *_address(world, package), "1"]
    with subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_until(lambda: _findings(world) or process.poll() is not None, "a Node engine")
        try:
            yield
        finally:
            process.kill()


def _findings(world: World) -> list[Finding]:
    """Return what the doctor finds of the platform's programs by Redis."""
    with closing(open_redis(world.settings)) as redis:
        site = Site(world.settings, list(JOBS.values()), clock.now)
        site.redis = redis
        checks = [check for check in platform.CHECKS if check.needs is Service.REDIS]
        found = [finding for check in checks for finding in check.look(site)]
    return [finding for finding in found if finding.severity is not FindingSeverity.OK]


def _address(world: World, package: str) -> tuple[str, str, str, str]:
    return package, f"{world.settings.queue_prefix}:delivery", "send-email", _url(world)


def _url(world: World) -> str:
    assert world.settings.redis_url
    return world.settings.redis_url.get_secret_value()
