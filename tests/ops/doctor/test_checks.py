"""Single checks of the doctor, where an installation with the fault is not to be had."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.ops.doctor.check import Check, Service, Site
from mauntic_jobs.ops.doctor.checks import alerts, encryption as secrecy, files, fly, postgres, redis
from mauntic_jobs.ops.doctor.finding import Finding, FindingSeverity, ok
from mauntic_jobs.ops.doctor.run_checks import CHECKS, examine
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import ConnectionWire
from mauntic_jobs.timekeeping import clock


def _site(settings: Settings, ahead: timedelta = timedelta()) -> Site:
    return Site(settings, [], lambda: clock.now() + ahead)


def _look(look: Any, site: Site) -> tuple[FindingSeverity, str]:
    (finding,) = look(site)
    return finding.severity, finding.what


def test_a_service_that_hangs_is_an_error_and_is_not_asked_again() -> None:
    asked, never = [], Event()

    def hang(_site: Site) -> Iterator[Finding]:
        asked.append(1)
        never.wait()
        yield ok("")

    checks = [Check("redis", name, hang, Service.REDIS) for name in ("first", "second")]
    checks += [Check("jobs", "hanging", hang), Check("jobs", "third", lambda _: [ok("done")])]
    found = list(examine(_site(Settings()), checks, seconds=0.05))
    never.set()
    assert [(each.check, each.severity, each.what) for each in found] == [
        ("first", FindingSeverity.ERROR, "Redis gave no answer within 0.05 s"),
        ("second", FindingSeverity.NOT_CHECKED, "Redis was not reached"),
        ("hanging", FindingSeverity.NOT_CHECKED, "no answer within 0.05 s"),
        ("third", FindingSeverity.OK, "done"),
    ]
    assert len(asked) == 2


def test_a_check_that_fails_keeps_no_other_from_being_made_and_tells_no_secret() -> None:
    def fail(_site: Site) -> Iterator[Finding]:
        raise KeyError("hunter2")

    found = list(examine(_site(Settings()), [Check("a", "b", fail), Check("c", "d", lambda _: [ok("done")])]))
    assert [(each.severity, each.what) for each in found] == [
        (FindingSeverity.NOT_CHECKED, "the check failed: KeyError"),
        (FindingSeverity.OK, "done"),
    ]


@pytest.mark.parametrize(
    ("ahead", "severity", "words"),
    [
        (timedelta(), FindingSeverity.OK, "agree"),
        (timedelta(seconds=30), FindingSeverity.WARNING, "30 s ahead of that of"),
        (timedelta(seconds=-30), FindingSeverity.WARNING, "s behind that of"),
        (timedelta(hours=1), FindingSeverity.ERROR, "3,600 s ahead of that of"),
        (timedelta(hours=-1), FindingSeverity.ERROR, "s behind that of"),
    ],
)
def test_clocks_are_compared(
    settings: Settings, servers: Any, ahead: timedelta, severity: FindingSeverity, words: str
) -> None:
    both = Settings(**{**settings.model_dump(), "redis_url": servers.redis_url})
    clocks = ("connection", "clock")
    checks = [postgres.CONNECTION, *postgres.CHECKS, redis.CONNECTION, *redis.CHECKS]
    found = list(examine(_site(both, ahead), [each for each in checks if each.name in clocks]))
    assert [each.severity for each in found] == [FindingSeverity.OK, severity] * 2
    assert [words in each.what for each in found if each.check == "clock"] == [True, True]


def test_a_pooler_is_noticed(settings: Settings, request: pytest.FixtureRequest) -> None:
    checks = [postgres.CONNECTION, *(each for each in postgres.CHECKS if each.name == "pooler")]
    *_, found = examine(_site(settings), checks)
    through = "pgbouncer" in request.node.callspec.id
    assert ("through a pooler" in found.what, "directly" in found.what) == (through, not through)


@pytest.mark.parametrize(
    ("wire", "severity", "words"),
    [
        (ConnectionWire("db.example.com", True, "verify-full", 1), FindingSeverity.OK, "known by its certificate"),
        (
            ConnectionWire("db.example.com", True, "require", 1),
            FindingSeverity.OK,
            "not asked who it is (sslmode=require)",
        ),
        (
            ConnectionWire("db.example.com", False, "prefer", 1),
            FindingSeverity.WARNING,
            "db.example.com is not encrypted",
        ),
        (ConnectionWire("127.0.0.1", False, "prefer", 1), FindingSeverity.OK, "does not leave this machine"),
        (ConnectionWire("/run/postgresql", False, "prefer", 1), FindingSeverity.OK, "does not leave this machine"),
    ],
)
def test_a_connection_to_postgres_that_can_be_overheard_is_named(
    wire: ConnectionWire, severity: FindingSeverity, words: str
) -> None:
    class Connected:
        def __init__(self) -> None:
            self.wire = wire

    site = _site(Settings())
    site.session = Connected()  # type: ignore[assignment]
    found, what = _look(secrecy.POSTGRES.look, site)
    assert (found, words in what) == (severity, True)


@pytest.mark.parametrize(
    ("url", "severity", "words"),
    [
        ("rediss://redis.example.com/0", FindingSeverity.OK, "known by its certificate"),
        ("rediss://redis.example.com/0?ssl_cert_reqs=none", FindingSeverity.WARNING, "not asked who it is"),
        ("redis://redis.example.com/0", FindingSeverity.WARNING, "redis.example.com is not encrypted"),
        ("redis://localhost/0", FindingSeverity.OK, "does not leave this machine"),
        ("unix:///run/redis.sock", FindingSeverity.OK, "does not leave this machine"),
    ],
)
def test_a_connection_to_redis_that_can_be_overheard_is_named(url: str, severity: FindingSeverity, words: str) -> None:
    found, what = _look(secrecy.REDIS.look, _site(Settings(redis_url=url)))
    assert (found, words in what) == (severity, True)


@pytest.mark.parametrize(
    ("check", "told", "severity", "words"),
    [
        ("version", {"redis_version": "4.0.14"}, FindingSeverity.ERROR, "BullMQ needs 5.0"),
        ("version", {"redis_version": "6.0.16"}, FindingSeverity.WARNING, "BullMQ recommends 6.2"),
        ("version", {"redis_version": "7.2.4", "valkey_version": "9.0.1"}, FindingSeverity.OK, "Valkey 9.0.1"),
        ("eviction", {}, FindingSeverity.NOT_CHECKED, "cannot be read"),
        ("memory", {"used_memory": 85, "maxmemory": 100}, FindingSeverity.WARNING, "85% of its memory"),
        ("memory", {"used_memory": 85, "maxmemory": 0}, FindingSeverity.OK, "no limit"),
        (
            "persistence",
            {"aof_enabled": 1, "aof_last_write_status": "err"},
            FindingSeverity.ERROR,
            "aof_last_write_status",
        ),
    ],
)
def test_what_another_redis_tells_of_itself_is_judged(
    check: str, told: dict[str, Any], severity: FindingSeverity, words: str
) -> None:
    class Telling:
        def on_each_node(self, *_: str) -> dict[str, dict[str, Any]]:
            return {"": told}

    site = _site(Settings())
    site.redis = Telling()  # type: ignore[assignment]
    (look,) = (each.look for each in redis.CHECKS if each.name == check)
    found, what = _look(look, site)
    assert (found, words in what) == (severity, True)


def test_a_database_without_the_platform_is_two_errors(empty_database: Settings) -> None:
    found = list(examine(_site(empty_database), [each for each in CHECKS if each.needs is Service.POSTGRES]))
    errors = {each.check: each.what for each in found if each.severity is FindingSeverity.ERROR}
    assert set(errors) == {"platform", "migrations"}
    assert (
        "analytics.campaign_daily_stats, analytics.contact_activity, analytics.event_aggregates and 10"
        in errors["platform"]
    )
    assert {
        each.what for each in found if each.severity is FindingSeverity.NOT_CHECKED and each.area == "providers"
    } == {"not there: delivery.provider_configs"}


def test_a_channel_of_alerts_that_needs_apprise_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    site = _site(Settings.model_validate({"alerts": [{"type": "apprise", "url": "json://example.com"}]}))
    (check,) = alerts.CHECKS
    monkeypatch.setattr(alerts, "find_spec", lambda _: None)
    assert _look(check.look, site) == (FindingSeverity.ERROR, "a channel needs Apprise, which is not installed")
    monkeypatch.setattr(alerts, "find_spec", lambda _: object())
    assert _look(check.look, site) == (FindingSeverity.OK, "1 channel may be told")


def test_an_app_may_have_options_and_an_order_of_its_own(tmp_path: Path) -> None:
    jobs = [JOBS[name] for name in ("aggregate-hourly", "warmup-daily-reset")]
    command = "work --drain-timeout=2m analytics:warmup-daily-reset analytics:aggregate-hourly"
    (tmp_path / "analytics-aggregator.toml").write_text(
        f"app = 'other'\nkill_timeout = '3m'\n[processes]\nworker = '{command}'\n"
    )
    (found,) = examine(Site(Settings(), jobs, clock.now, fly=tmp_path), fly.CHECKS)
    assert found.severity is FindingSeverity.OK


def test_what_a_line_of_a_file_holds_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "app.toml").write_text(
        "kill_timeout = 5\n[processes]\nworker = 'work --database-url postgresql://jobs:hunter2@db.example.com/x'\n"
    )
    site = Site(Settings(), [], clock.now, fly=tmp_path)
    (found,) = examine(site, fly.CHECKS)
    assert (found.severity, "hunter2" in str(found)) == (FindingSeverity.ERROR, False)
    assert "work --database-url postgresql://jobs:***@db.example.com/x" in found.what


@pytest.mark.parametrize(
    ("text", "mode", "names"),
    [
        ('database_url = "postgresql://jobs:hunter2@db.example.com/mauntic"', 0o644, "database_url"),
        ('database_url = "postgresql://jobs:hunter2@db.example.com/mauntic"', 0o640, None),
        ('database_url = "postgresql://jobs:hunter2@db.example.com/mauntic"', 0o600, None),
        ('database_url = "postgresql:///mauntic"', 0o644, None),
        ('encryption_key = "00112233"', 0o604, "encryption_key"),
        ('# encryption_key = "00112233"', 0o644, None),
        ('[alerts.hook]\nurl = "https://hooks.example.com/x"\nsecret = "hunter2hunter2"', 0o644, "secret"),
        ("export REDIS_URL=rediss://:hunter2@redis.example.com:6379/0", 0o644, "REDIS_URL"),
        ("cron = '5 * * * *'", 0o644, None),
    ],
)
def test_a_file_with_secrets_is_for_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, mode: int, names: str | None
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(f"{text}\n")
    file.chmod(mode)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAUNTIC_CONFIG", str(file))
    (check,) = files.CHECKS
    (finding,) = check.look(Site(Settings(), [], clock.now))
    if names is None:
        assert finding.severity is FindingSeverity.OK
    else:
        assert (finding.severity, finding.to_do) == (FindingSeverity.WARNING, f"chmod o= {file}")
        assert f"(mode {mode:04o}), which holds {names}" in finding.what
        assert "hunter2" not in finding.what
