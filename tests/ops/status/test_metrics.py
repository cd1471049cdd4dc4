"""The numbers that Prometheus reads, and what is made of them in `monitoring/`."""

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from mauntic_jobs.delivery.process.metrics import delivery_families
from mauntic_jobs.delivery.sending.outcome import Blame, Outcome, Verdict
from mauntic_jobs.delivery.stats import ChannelStats
from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.ops.status.metrics import PARTS, families
from mauntic_jobs.ops.status.read import InstallationStatus
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.bullmq.enqueue import QueueJob, add_jobs
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.telemetry.metrics import exposition, samples
from mauntic_jobs.timekeeping import clock
from tests.delivery.sink import Sink, running_sink
from tests.delivery.web import free_port, get
from tests.ops.status.test_status import HOUR, MINUTE, Platform
from tests.support import build_program, organization, run_program, start_program, wait_until

_ROOT = Path(__file__).parents[3]
_MONITORING = _ROOT / "monitoring"
_RULES, _TESTS = _MONITORING / "prometheus-rules.yaml", _MONITORING / "prometheus-rules.test.yaml"
_DASHBOARD = _MONITORING / "grafana-dashboard.json"
_PROGRAM: Any = build_program()


@pytest.fixture
def platform(direct_settings: Settings, servers: Servers) -> Platform:
    return Platform(direct_settings, servers.redis_url)


@pytest.fixture(scope="module")
def promtool() -> str:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    return program


def _exposed() -> set[str]:
    """Return the names of all series that there can be."""
    stats = ChannelStats()
    stats.settle("sent", 0.1)
    stats.exchange("email", "ses", Outcome(Verdict.PERMANENT, blame=Blame.MAILBOX), 0.1)
    stats.queue["waiting"] = 1
    delivered = {name for name, _ in samples(exposition(delivery_families({"email": stats})).decode())}
    return delivered | {family.name for family in families(InstallationStatus(clock.now()), PARTS)}


def _used(text: str) -> set[str]:
    return set(re.findall(r"\bmauntic_\w+", text))


def _numbers(text: str) -> dict[str, float]:
    """Return the numbers by name and the values of their labels."""
    return {
        " ".join([name.removeprefix("mauntic_"), *(each for _, each in labels)]): value
        for (name, labels), value in samples(text).items()
    }


def test_jobs_queues_and_deliveries_are_told(platform: Platform) -> None:
    platform.run("aggregate-hourly", ago=2 * HOUR)
    platform.run("aggregate-hourly", "failed", HOUR, error="x")
    platform.settle("aggregate-hourly", ago=3 * HOUR)
    platform.delivery("ambiguous")
    platform.backfill("active", ago=2 * MINUTE)
    platform.backfill("paused", "by ops")
    platform.enqueue("delivery:send-sms", ago=5 * MINUTE)
    assert platform.settings.redis_url
    own = {
        "REDIS_URL": platform.settings.redis_url.get_secret_value(),
        "MAUNTIC_QUEUE_PREFIX": platform.settings.queue_prefix,
    }
    done = run_program("metrics", settings=platform.settings, **own)
    assert (done.returncode, done.stderr) == (ExitCode.DONE, "")
    found = _numbers(done.stdout)
    now = platform.now
    assert found["store_up postgres"] == found["store_up redis"] == 1
    assert found["job_last_run_result aggregate-hourly failed"] == 1
    assert found["job_last_run_timestamp_seconds aggregate-hourly"] == (now - HOUR).timestamp()
    assert found["job_last_run_duration_seconds aggregate-hourly"] == 2
    assert found["job_last_success_timestamp_seconds aggregate-hourly"] == (now - 2 * HOUR).timestamp() + 2
    oldest = now.replace(minute=0, second=0) - 2 * HOUR
    assert found["job_next_slot_timestamp_seconds aggregate-hourly"] == oldest.timestamp()
    assert found["job_next_slot_timestamp_seconds monthly-usage-summary"] > now.timestamp()
    assert found["backfill_windows_left aggregate-hourly abandoned"] == 2
    assert found["backfill_windows_left aggregate-hourly paused"] == 2
    assert found["queue_jobs delivery:send-sms waiting"] == 1
    assert found["queue_waiting_since_timestamp_seconds delivery:send-sms"] == (now - 5 * MINUTE).timestamp()
    assert found["deliveries email held"] == 1
    assert found["deliveries_oldest_timestamp_seconds email held"] == (now - HOUR).timestamp()


def test_alerts_that_nobody_could_be_told_of_are_counted(platform: Platform) -> None:
    for number, problem in enumerate((None, "slack 1: answered 500")):
        platform.write(
            "INSERT INTO mauntic_jobs.alerts"
            " (fingerprint, cause, severity, summary, action, opened_at, seen_at, problem)"
            " VALUES (%(name)s, 'job failed', 'error', 's', 'a', %(at)s, %(at)s, %(problem)s)",
            name=str(number),
            at=platform.now,
            problem=problem,
        )
    found = _numbers(run_program("metrics", "alerts", settings=platform.settings).stdout)
    assert (found["alerts_open error"], found["alerts_undelivered"]) == (2, 1)


def test_parts_are_chosen_and_a_store_that_is_away_is_told(platform: Platform) -> None:
    done = run_program("metrics", "jobs", "queues", settings=platform.settings, REDIS_URL="redis://127.0.0.1:1")
    assert done.returncode == ExitCode.UNAVAILABLE
    assert "Cannot reach Redis" in done.stderr
    found = _numbers(done.stdout)
    assert (found["store_up postgres"], found["store_up redis"]) == (1, 0)
    assert "job_missed_slots aggregate-hourly" in found
    assert not any(name.startswith(("queue", "deliveries")) for name in found)
    assert run_program("metrics", "nonsense", settings=platform.settings).returncode == ExitCode.USAGE


@pytest.mark.parametrize(
    "command", [("schedule", "run", "--loop"), ("work",), ("deliver", "--all"), ("monitor", "run")], ids=" ".join
)
def test_processes_that_stay_answer_with_all_numbers(platform: Platform, command: tuple[str, ...]) -> None:
    port = free_port()
    assert platform.settings.redis_url
    own = {"REDIS_URL": platform.settings.redis_url.get_secret_value(), "PORT": str(port)}
    process = start_program(*command, settings=platform.settings, **own)
    try:
        wait_until(lambda: process.poll() is not None or _answers(port), "an answer")
        status, text = get(port, "/metrics")
        assert status == 200
        assert {"store_up postgres", "job_clocks aggregate-hourly"} <= set(_numbers(text))
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate()
    assert process.returncode == ExitCode.DONE, errors


def test_the_processes_of_the_readme_fill_every_panel(platform: Platform, tmp_path: Path) -> None:
    """A crontab runs the jobs and leaves nothing behind; `deliver` is the one process that can be scraped."""
    with running_sink(tmp_path) as sink:
        text = _scraped(platform, sink)
    scraped = {name for name, _ in samples(text)}
    assert _used(_DASHBOARD.read_text()) - scraped == set()


def _scraped(platform: Platform, sink: Sink) -> str:
    """Return what a `deliver` answers that has had an exchange with a mail server, which refuses the recipient."""
    _fill(platform, sink)
    port = free_port()
    assert platform.settings.redis_url
    own = {
        "REDIS_URL": platform.settings.redis_url.get_secret_value(),
        "MAUNTIC_QUEUE_PREFIX": platform.settings.queue_prefix,
        "PORT": str(port),
        "MAUNTIC_ALLOWED_NETWORKS": "127.0.0.0/8",
    }
    process = start_program("deliver", "--all", settings=platform.settings, **own)
    try:
        wait_until(lambda: process.poll() is not None or _answers(port), "an answer")
        text: str = wait_until(lambda: _exchanged(port), "an exchange")
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate()
    assert process.returncode == ExitCode.DONE, errors
    return text


def _fill(platform: Platform, sink: Sink) -> None:
    """Leave something for every panel: runs, jobs, dead letters, deliveries, alerts, and a message to deliver."""
    platform.run("aggregate-hourly", ago=2 * HOUR, counters='{"days": 1}')
    platform.delivery("ambiguous")
    platform.backfill("paused", "by ops")
    platform.enqueue("journey:execute-step", ago=5 * MINUTE)
    platform.ask("ZADD", f"{platform.settings.queue_prefix}:journey:execute-step:failed", 1_700_000_000_000, "x")
    platform.write(
        "INSERT INTO mauntic_jobs.alerts (fingerprint, cause, severity, summary, action, opened_at, seen_at)"
        " VALUES ('x', 'job failed', 'error', 's', 'a', %(at)s, %(at)s)",
        at=platform.now,
    )
    platform.write(
        "INSERT INTO delivery.provider_configs (organization_id, channel, provider_type, config) VALUES"
        " (%(org)s, 'email', 'custom_smtp', %(config)s::jsonb)",
        org=organization(1),
        config=json.dumps({"host": sink.host, "port": sink.port, "from": "a@acme.test"}),
    )
    _use_up_a_day(platform)
    message = {"deliveryId": "d1", "organizationId": str(organization(1)), "emailAddress": "reject-550@example.com"}
    job = QueueJob("delivery:send-email", "j1x", "send-email", {**message, "subject": "Hello", "text": "Hello"})
    with closing(open_redis(platform.settings)) as redis:
        add_jobs(redis, platform.settings.queue_prefix, [job], round(clock.now().timestamp() * 1000))


def _use_up_a_day(platform: Platform) -> None:
    """Leave a provider of another organization that has sent its messages of the day."""
    base, owner, provider = f"{platform.settings.queue_prefix}:delivery:send-email:adm", str(organization(2)), uuid4()
    part = int(clock.now().timestamp()) // 600
    platform.ask("HSET", f"{base}:limits", owner, f"{provider}@::5")
    platform.ask("HSET", f"{base}:day:{provider}", "total", 5, "first", part, part, 5)
    platform.ask("ZADD", f"{base}:full", (part + 145) * 600_000_000, f"{owner} {provider}")


def _exchanged(port: int) -> str | None:
    """Return what a scrape answers once there was an exchange with a provider."""
    text: str = get(port, "/metrics")[1]
    return text if "mauntic_provider_exchanges_total{" in text and "mauntic_delivery_jobs_total{" in text else None


def _answers(port: int) -> bool:
    try:
        return get(port, "/health")[0] == 200
    except OSError:
        return False


def test_every_series_of_the_rules_and_the_dashboard_exists() -> None:
    exposed = _exposed()
    for file in (_RULES, _TESTS, _DASHBOARD):
        used = _used(file.read_text())
        assert used, file.name
        assert used - exposed == set(), file.name


def test_every_series_is_documented_and_shown() -> None:
    documented, shown = _used((_ROOT / "docs" / "metrics.md").read_text()), _used(_DASHBOARD.read_text())
    for name in _exposed():
        family = re.sub(r"_(bucket|count|sum|created)$", "", name) if "_seconds_" in name else name
        assert family in documented, name
        assert {family, f"{family}_bucket"} & shown, name


def test_the_dashboards_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    panels = json.loads(_DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }  # fmt: skip
        assert not taken & cells, panel["title"]
        taken |= cells
    assert max(x for x, _ in taken) < 24


def _commands() -> Iterator[str]:
    for line in _RULES.read_text().splitlines():
        yield from re.findall(r"mauntic-jobs ([a-z][a-z -]*[a-z])", line.partition("description:")[2])


def test_the_rules_name_commands() -> None:
    commands = list(_commands())
    assert len(commands) > 5
    for command in commands:
        assert command.split()[0] in {*_PROGRAM.commands, "dlq"}, command


def test_the_names_are_as_prometheus_wants_them(promtool: str) -> None:
    stats = ChannelStats()
    stats.exchange("email", "ses", Outcome(Verdict.PERMANENT, blame=Blame.MAILBOX), 0.1)
    for text in (
        exposition(families(InstallationStatus(clock.now()), PARTS)),
        exposition(delivery_families({"email": stats})),
    ):
        checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_the_rules_hold(promtool: str) -> None:
    checked = subprocess.run([promtool, "check", "rules", str(_RULES)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    tested = subprocess.run([promtool, "test", "rules", str(_TESTS)], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr
