import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mauntic_jobs.errors import ConfigurationError, ExitCode
from mauntic_jobs.redaction.urls import MASK, mask_url
from mauntic_jobs.runner.subprocesses import _as_environment
from mauntic_jobs.settings.serialize import shown
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.settings.sources import _EXAMPLES, load, variable

HIDDEN = "hunter2"
DURATIONS = ("connect_timeout", "statement_timeout", "lateness_grace", "retry_delay", "takeover_after")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return where the settings are looked for when no file is named."""
    return tmp_path / "mauntic-jobs.toml"


def _write(file: Path, **values: Any) -> None:
    # JSON's strings, numbers, true and false are TOML's too; inline tables differ, and are given as text.
    file.write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items()))


@pytest.mark.parametrize(
    ("name", "default", "in_file", "in_environment", "flag"),
    [
        ("database_url", None, "postgresql://file/db", "postgresql://environment/db", "postgresql://flag/db"),
        ("redis_url", None, "redis://file", "redis://environment", "redis://flag"),
        ("embedded", False, True, False, True),
        ("work_mem", "64MB", "1GB", "2GB", "3GB"),
        ("max_attempts", 4, 5, 6, 7),
        *((name, None, "11s", "12s", "13s") for name in DURATIONS),
    ],
)
def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(
    monkeypatch: pytest.MonkeyPatch, file: Path, name: str, default: Any, in_file: Any, in_environment: Any, flag: Any
) -> None:
    settings, origins = load({})
    assert origins[name] == "default"
    assert shown(settings, name) == default or name in DURATIONS
    _write(file, **{name: in_file})
    settings, origins = load({})
    assert (shown(settings, name), origins[name]) == (in_file, str(file))
    monkeypatch.setenv(variable(name), str(in_environment))
    settings, origins = load({})
    assert (shown(settings, name), origins[name]) == (in_environment, "environment")
    settings, origins = load({name: flag})
    assert (shown(settings, name), origins[name]) == (flag, "flag")


def test_the_policies_of_jobs_come_from_the_environment_before_the_file(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    file.write_text('[jobs.aggregate-hourly]\nmax_attempts = 2\nretry_delay = "5s"\n')
    settings, origins = load({})
    assert settings.retry_delays("aggregate-hourly") == [timedelta(seconds=5)]
    assert origins["jobs"] == str(file)
    monkeypatch.setenv("MAUNTIC_JOBS", '{"aggregate-hourly": {"max_attempts": 1}}')
    settings, origins = load({})
    assert settings.retry_delays("aggregate-hourly") == []
    assert origins["jobs"] == "environment"


def test_each_setting_has_its_own_origin(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    _write(file, work_mem="1GB", max_attempts=5)
    monkeypatch.setenv("MAUNTIC_MAX_ATTEMPTS", "6")
    _, origins = load({"database_url": "postgresql://flag/db"})
    found = {name: origin for name, origin in origins.items() if origin != "default"}
    assert found == {"database_url": "flag", "max_attempts": "environment", "work_mem": str(file)}


def test_a_named_file_is_read_instead_of_the_usual_ones(tmp_path: Path, file: Path) -> None:
    _write(file, work_mem="1GB", max_attempts=5)
    named = tmp_path / "named.toml"
    _write(named, work_mem="2GB")
    settings, origins = load({}, named)
    assert (settings.work_mem, settings.max_attempts) == ("2GB", 4)
    assert origins["work_mem"] == str(named)


def test_the_first_of_the_usual_files_that_exists_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here, system = tmp_path / "here.toml", tmp_path / "system.toml"
    monkeypatch.setattr("mauntic_jobs.settings.sources.CONFIG_FILES", (here, system))
    _write(system, work_mem="2GB", max_attempts=5)
    assert load({})[0].work_mem == "2GB"
    _write(here, work_mem="1GB")
    settings, _ = load({})
    assert (settings.work_mem, settings.max_attempts) == ("1GB", 4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("database_url", "DATABASE_URL"), ("redis_url", "REDIS_URL"), ("takeover_after", "MAUNTIC_TAKEOVER_AFTER")],
)
def test_the_variable_of_a_setting_is_named_after_it(name: str, expected: str) -> None:
    assert variable(name) == expected


@pytest.mark.parametrize("name", ["DATABASE_URL", "MAUNTIC_EMBEDDED", "MAUNTIC_MAX_ATTEMPTS", "MAUNTIC_JOBS"])
def test_an_empty_variable_sets_nothing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "")
    settings, origins = load({})
    assert settings == Settings()
    assert set(origins.values()) == {"default"}


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("max_attempts", "0", "greater than 0"),
        ("max_attempts", "-1", "greater than 0"),
        ("max_attempts", "1.5", "integer"),
        ("max_attempts", "many", "integer"),
        ("embedded", "perhaps", "boolean"),
        ("work_mem", "64", "pattern"),
        ("work_mem", "64MB; DROP TABLE x", "pattern"),
        ("statement_timeout", "0s", "greater than"),
        ("statement_timeout", "ten", "write it like 90s"),
        ("connect_timeout", "PT10S", "write it like 90s"),
        ("takeover_after", "1m 30s", "write it like 90s"),
        ("retry_delay", "-1s", "write it like 90s"),
        ("lateness_grace", "2", "write it like 90s"),
    ],
)
@pytest.mark.parametrize("source", ["file", "environment", "flag"])
def test_a_bad_value_is_named_with_its_origin(
    monkeypatch: pytest.MonkeyPatch, file: Path, name: str, value: str, complaint: str, source: str
) -> None:
    flags = {name: value} if source == "flag" else {}
    if source == "file":
        _write(file, **{name: value})
    if source == "environment":
        monkeypatch.setenv(variable(name), value)
    with pytest.raises(ConfigurationError, match=complaint) as raised:
        load(flags)
    assert raised.value.exit_code == ExitCode.CONFIGURATION
    assert f"{name} (from {file if source == 'file' else source})" in str(raised.value)


def test_every_bad_value_is_named(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    _write(file, work_mem="much", max_attempts=0)
    monkeypatch.setenv("MAUNTIC_RETRY_DELAY", "soon")
    with pytest.raises(ConfigurationError) as raised:
        load({})
    lines = str(raised.value).splitlines()
    assert lines[0] == "These settings cannot be used:"
    assert [line.split(" (from ")[0] for line in sorted(lines[1:])] == ["  max_attempts", "  retry_delay", "  work_mem"]


def test_a_setting_that_does_not_exist_is_named_with_the_file(file: Path) -> None:
    _write(file, databse_url=f"postgresql://app:{HIDDEN}@db/x")
    with pytest.raises(ConfigurationError) as raised:
        load({})
    assert f"databse_url (from {file}): no such setting" in str(raised.value)
    assert HIDDEN not in str(raised.value)


def test_a_policy_that_does_not_exist_is_named_with_its_job(file: Path) -> None:
    file.write_text("[jobs.aggregate-hourly]\nattempts = 2\n")
    with pytest.raises(ConfigurationError, match=r"jobs\.aggregate-hourly\.attempts .*no such setting"):
        load({})


def test_a_bad_url_in_a_file_is_not_repeated(file: Path) -> None:
    file.write_text(f'database_url = ["postgresql://app:{HIDDEN}@db/x"]\n')
    with pytest.raises(ConfigurationError, match="database_url") as raised:
        load({})
    assert HIDDEN not in str(raised.value)


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"missing\.toml does not exist"):
        load({}, tmp_path / "missing.toml")


def test_a_directory_is_no_configuration_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        load({}, tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"work_mem = ", b"work_mem: 1GB", b"work_mem = '1GB'\nwork_mem = '2GB'", b"\xff\xfe", b"jobs = 1\n[jobs.x]\n"],
    ids=["cut short", "YAML", "twice", "UTF-16", "no table"],
)
def test_a_file_that_is_no_toml_is_named(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"Cannot read the configuration file {file}"):
        load({})


def test_an_empty_file_sets_nothing(file: Path) -> None:
    file.touch()
    assert load({})[0] == Settings()


@pytest.mark.parametrize("text", ["2", "{", "aggregate-hourly=2", "[]", '{"aggregate-hourly": 2}'])
def test_policies_in_the_environment_that_are_no_json_object_are_an_error(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("MAUNTIC_JOBS", text)
    with pytest.raises(ConfigurationError, match=r"MAUNTIC_JOBS must be JSON|jobs.*\(from environment\)"):
        load({})


ALERTS = """
[
    {"type": "slack", "url": "https://hooks.example.com/services/T0/B0/hunter2", "min_severity": "error"},
    {"type": "webhook", "url": "https://ops.example.com/in?token=hunter2", "secret": "hunter2hunter2"},
    {"type": "smtp", "url": "smtp://me:hunter2@mail.example.com:587", "from": "a@x.test", "to": ["b@x.test"]},
    {"type": "apprise", "url": "tgram://hunter2/chat"}
]
"""
_SECRETIVE = {"MAUNTIC_ALERTS": ALERTS, "MAUNTIC_SENTRY_DSN": "https://hunter2@o1.ingest.example.com/7"}
_SECRETIVE["MAUNTIC_JOBS"] = '{"aggregate-hourly": {"heartbeat_url": "https://hc.example.com/hunter2"}}'


def test_channels_of_alerts_are_shown_without_their_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in _SECRETIVE.items():
        monkeypatch.setenv(name, value)
    settings, _ = load({})
    assert shown(settings, "alerts") == [
        {"type": "slack", "url": "https://hooks.example.com/***", "min_severity": "error"},
        {"type": "webhook", "url": "https://ops.example.com/***", "secret": "***", "min_severity": "info"},
        {
            "type": "smtp",
            "url": "smtp://mail.example.com/***",
            "from": "a@x.test",
            "to": ["b@x.test"],
            "min_severity": "info",
        },
        {"type": "apprise", "url": "***", "min_severity": "info"},
    ]
    assert shown(settings, "jobs") == {"aggregate-hourly": {"heartbeat_url": "https://hc.example.com/***"}}
    assert not [name for name in Settings.model_fields if "hunter2" in str(shown(settings, name))]


def test_a_run_in_a_process_of_its_own_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in _SECRETIVE.items():
        monkeypatch.setenv(name, value)
    settings, _ = load({})
    for name, value in _as_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert load({})[0] == settings
    assert Settings(**settings.model_dump()) == settings


@pytest.mark.parametrize(
    ("channel", "complaint"),
    [
        ('{"type": "pigeon"}', "alerts.0"),
        ('{"type": "slack", "url": "hunter2"}', "alerts.0.slack.url .*https://host/"),
        ('{"type": "slack", "url": "https://[hunter2"}', "https://host/"),
        ('{"type": "slack", "url": "https://x.test", "secret": "hunter2hunter2"}', "no such setting"),
        ('{"type": "webhook", "url": "https://x.test", "secret": "hunter2"}', "alerts.0.webhook.secret"),
        ('{"type": "smtp", "url": "smtp://x.test", "from": "a@x.test", "to": []}', "alerts.0.smtp.to"),
        ('{"type": "smtp", "url": "smtp://x.test", "from": "a@x.test\\nBcc: x", "to": ["b@x.test"]}', "from"),
        ('{"type": "slack", "url": "https://x.test", "min_severity": "hunter2"}', "min_severity"),
    ],
)
def test_a_channel_that_cannot_be_used_is_named_without_its_secrets(
    monkeypatch: pytest.MonkeyPatch, channel: str, complaint: str
) -> None:
    monkeypatch.setenv("MAUNTIC_ALERTS", f"[{channel}]")
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        load({})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["alerts", "channels", "dead_letters", "jobs", "message_limits", "provider_urls", "smtp_ports"]
)
def test_the_variable_that_is_no_json_is_named_without_its_value(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(variable(name), "hunter2")
    with pytest.raises(ConfigurationError, match=f"{variable(name)} must be JSON, like ") as caught:
        load({})
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv(variable(name), str(caught.value).partition(" like ")[2].removesuffix("."))
    assert load({})[1][name] == "environment"


def test_every_setting_that_is_no_single_value_is_read_as_json() -> None:
    schema = Settings.model_json_schema(by_alias=False)["properties"]
    nested = {name for name, kind in schema.items() if "$ref" in str(kind) or kind.get("type") in ("array", "object")}
    single = {"scheduled_shrink", "campaign_channels", "segments_compatibility"}
    assert nested - single == set(_EXAMPLES)


def test_a_variable_in_lower_case_counts_and_an_empty_one_or_null_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAUNTIC_QUEUE_PREFIX", raising=False)
    monkeypatch.setenv("mauntic_queue_prefix", "own")
    monkeypatch.setenv("MAUNTIC_RETRY_DELAY", "")
    monkeypatch.setenv("MAUNTIC_ALERTS", "null")
    settings, origins = load({})
    assert (settings.queue_prefix, origins["queue_prefix"]) == ("own", "environment")
    assert (origins["retry_delay"], origins["alerts"]) == ("default", "default")


def test_dead_letters_have_limits_for_all_of_them_and_for_those_of_conditions(file: Path) -> None:
    file.write_text('[[dead_letters]]\nwhere = "queue=run"\nage = "1h"\n')
    settings, _ = load({})
    usual = {"depth": 100, "growth": 20, "window": "1h", "age": "1d"}
    assert shown(Settings(), "dead_letters") == [usual]
    assert shown(settings, "dead_letters") == [usual, {**usual, "where": "queue=run", "age": "1h"}]
    assert Settings(**settings.model_dump()) == settings
    file.write_text("[[dead_letters]]\ndepth = 500\n")
    assert shown(load({})[0], "dead_letters") == [{**usual, "depth": 500}]


@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        ('{"depth": -1}', "dead_letters.0.depth"),
        ('{"window": "0s"}', "dead_letters.0.window"),
        ('{"width": 1}', "dead_letters.0.width .*no such setting"),
        ('{"where": "queue=run"}, {"where": "queue=run"}', "each must have another condition"),
        ('{"depth": 1}, {"age": "1h"}', "each must have another condition"),
    ],
)
def test_limits_of_dead_letters_that_cannot_be_meant_are_refused(
    monkeypatch: pytest.MonkeyPatch, limits: str, complaint: str
) -> None:
    monkeypatch.setenv("MAUNTIC_DEAD_LETTERS", f"[{limits}]")
    with pytest.raises(ConfigurationError, match=complaint):
        load({})


def test_retries_wait_one_two_and_four_seconds_by_default() -> None:
    assert [delay.total_seconds() for delay in Settings().retry_delays("aggregate-hourly")] == [1, 2, 4]


@pytest.mark.parametrize(
    ("policy", "delays"),
    [
        ({}, [1, 2, 4]),
        ({"max_attempts": 1}, []),
        ({"max_attempts": 2}, [1]),
        ({"retry_delay": "10s"}, [10, 20, 40]),
        ({"retry_delay": "0s"}, [0, 0, 0]),
        ({"max_attempts": 3, "retry_delay": "0.5s"}, [0.5, 1]),
    ],
)
def test_a_job_can_have_its_own_retries(policy: dict[str, Any], delays: list[float]) -> None:
    settings = Settings(jobs={"aggregate-hourly": policy})
    assert [delay.total_seconds() for delay in settings.retry_delays("aggregate-hourly")] == delays
    assert [delay.total_seconds() for delay in settings.retry_delays("another")] == [1, 2, 4]


def test_a_thousand_attempts_can_be_asked_for() -> None:
    assert len(Settings(max_attempts=1000).retry_delays("aggregate-hourly")) == 999


def test_a_job_cannot_wait_for_a_negative_time(file: Path) -> None:
    file.write_text("[jobs.aggregate-hourly]\nretry_delay = -5\n")
    with pytest.raises(ConfigurationError, match=r"jobs\.aggregate-hourly\.retry_delay"):
        load({})


def test_durations_are_shown_as_they_are_written(file: Path) -> None:
    written = 'lateness_grace = "1h30m"\n[jobs.aggregate-hourly]\nretry_delay = "1m30s"\n'
    file.write_text(written)
    settings, _ = load({})
    assert shown(settings, "lateness_grace") == "1h30m"
    assert shown(settings, "jobs") == {"aggregate-hourly": {"retry_delay": "1m30s"}}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://app:hunter2@db.example.com:5432/x", f"postgresql://app:{MASK}@db.example.com:5432/x"),
        ("postgresql://app:hunter2@db/x?sslmode=require", f"postgresql://app:{MASK}@db/x?sslmode=require"),
        ("postgresql://app:hunter2@a:1,b:2/x", f"postgresql://app:{MASK}@a:1,b:2/x"),
        ("postgresql://app:hun:ter2@db/x", f"postgresql://app:{MASK}@db/x"),
        ("postgresql://app:p@hunter2@db/x", f"postgresql://app:{MASK}@db/x"),
        ("redis://:hunter2@cache:6379/0", f"redis://:{MASK}@cache:6379/0"),
        ("postgresql://app@db/x", "postgresql://app@db/x"),
        ("postgresql:///x?host=/run/postgresql", "postgresql:///x?host=/run/postgresql"),
    ],
)
def test_a_password_is_masked_and_the_rest_is_shown(url: str, expected: str) -> None:
    assert mask_url(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app:hunter2@db/x",
        "postgresql://db/x?user=app&password=hunter2",
        "postgresql://db/x?sslpassword=hunter2",
        "postgresql://db/x?pass%77ord=hunter2",
        "host=db user=app password=hunter2",
        "password = 'hunter2' host=db",
        "postgresql://app:hunter2@[::1/x",
        "postgresql://app:hunter2@db:port/x",
        "'postgresql://app:hunter2@db/x'",
        "psql postgresql://app:hunter2@db/x",
        "postgresql//app:hunter2@db/x",
        "//app:hunter2@db/x",
        "app:hunter2@db/x",
        "hunter2",
        # libpq takes these as they are, though a password should be percent-encoded.
        "postgresql://app:#hunter2@db/x",
        "postgresql://app:?hunter2@db/x",
        "postgresql://app:a/hunter2@db/x",
        "redis://:a#hunter2@cache/0",
        # The host was forgotten.
        "postgresql://app:hunter2",
        "postgresql://app:hunter2/x",
    ],
)
def test_no_secret_is_shown_of_any_url(url: str) -> None:
    settings = Settings(database_url=url, redis_url=url)
    for name in ("database_url", "redis_url"):
        assert HIDDEN not in str(shown(settings, name))


def test_no_secret_is_in_the_representation_of_the_settings() -> None:
    settings = Settings(database_url=f"postgresql://app:{HIDDEN}@db/x", redis_url=f"redis://:{HIDDEN}@cache")
    assert HIDDEN not in repr(settings)
    assert HIDDEN not in str(settings)
    assert HIDDEN not in str(settings.model_dump())
