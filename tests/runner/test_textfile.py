"""The numbers that a run leaves for node-exporter."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mauntic_jobs.errors import ExitCode
from mauntic_jobs.runner.request import Status
from mauntic_jobs.runner.run import run
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.telemetry.metrics import samples
from tests.support import Event, add_events, contact, day, organization, request, utc

NOW = utc("2026-10-06T00:20")
DAY = day("2026-10-05")


@pytest.fixture
def here(direct_settings: Settings, tmp_path: Path) -> Settings:
    with connect(direct_settings) as session:
        add_events(session, [Event(organization(1), contact(1), "email_opened", utc("2026-10-05T10:00"))])
    return direct_settings.model_copy(update={"metrics_dir": str(tmp_path)})


def numbers(directory: Path, job: str = "aggregate-hourly") -> dict[str, float]:
    """Return what the file of a job says, by name without the prefix, and the label that is no job."""
    found = samples((directory / f"mauntic_jobs_{job}.prom").read_text())
    assert {dict(labels)["job_name"] for _, labels in found} == {job}
    values = {}
    for (name, labels), value in found.items():
        more = [each for label, each in labels if label != "job_name"]
        values[" ".join([name.removeprefix("mauntic_job_"), *more])] = value
    return values


def test_a_run_leaves_its_numbers_in_the_file_of_its_job(here: Settings, tmp_path: Path) -> None:
    for name in ("aggregate-hourly", "generate-daily-reports"):
        assert run(request(here, DAY, name, now=NOW)).status is Status.SUCCEEDED
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "mauntic_jobs_aggregate-hourly.prom",
        "mauntic_jobs_generate-daily-reports.prom",
    ]
    found = numbers(tmp_path)
    assert (found["last_run_result succeeded"], found["last_run_result failed"]) == (1, 0)
    assert found["last_run_timestamp_seconds"] == NOW.timestamp()
    assert found["next_slot_timestamp_seconds"] == utc("2026-10-06T01:00").timestamp()
    assert 0 < found["last_run_duration_seconds"] < 60
    assert found["last_success_rows events"] == 1
    assert (tmp_path / "mauntic_jobs_aggregate-hourly.prom").stat().st_mode & 0o777 == 0o644


def test_a_failure_does_not_hide_the_latest_success(here: Settings, tmp_path: Path) -> None:
    run(request(here, DAY, now=NOW))
    before = numbers(tmp_path)
    with connect(here) as session:
        session.execute(b"ALTER TABLE analytics.event_aggregates RENAME TO gone")
    assert run(request(here, DAY, now=NOW + timedelta(hours=1))).status is Status.FAILED
    found = numbers(tmp_path)
    assert (found["last_run_result succeeded"], found["last_run_result failed"]) == (0, 1)
    assert found["last_run_timestamp_seconds"] == before["last_run_timestamp_seconds"] + 3600
    for name in ("last_success_timestamp_seconds", "last_success_rows events"):
        assert found[name] == before[name]


def test_a_run_that_never_reached_the_database_is_a_failure_too(here: Settings, tmp_path: Path) -> None:
    away = here.model_copy(
        update={"database_url": Settings(database_url="postgresql://a@127.0.0.1:1/b").database_url, "max_attempts": 1}
    )
    assert run(request(away, DAY, now=NOW)).exit_code is ExitCode.UNAVAILABLE
    found = numbers(tmp_path)
    assert found["last_run_result failed"] == 1
    assert "last_success_timestamp_seconds" not in found


def test_a_defect_is_a_failure_too(here: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    asked = request(here, DAY, now=NOW)
    monkeypatch.setattr(type(asked.job), "run", property(lambda _: broken), raising=False)
    with pytest.raises(ZeroDivisionError):
        run(asked)
    assert numbers(tmp_path)["last_run_result failed"] == 1


def test_what_did_not_run_leaves_no_numbers(here: Settings, tmp_path: Path) -> None:
    run(request(here, DAY, now=NOW, dry_run=True))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["missing", "file"])
def test_numbers_that_cannot_be_written_fail_no_run(here: Settings, tmp_path: Path, place: str) -> None:
    directory = tmp_path / place
    if place == "file":
        directory.write_text("")
    said: list[str] = []
    settings = here.model_copy(update={"metrics_dir": str(directory)})
    assert run(request(settings, DAY, now=NOW, log=said.append)).status is Status.SUCCEEDED
    (sentence,) = said
    assert sentence.startswith(f"aggregate-hourly: cannot write its numbers to {directory}: ")


def test_a_file_that_is_no_exposition_is_replaced(here: Settings, tmp_path: Path) -> None:
    file = tmp_path / "mauntic_jobs_aggregate-hourly.prom"
    file.write_text('mauntic_job_last_success_timestamp_seconds{job_name="aggre')
    with connect(here) as session:
        session.execute(b"ALTER TABLE analytics.event_aggregates RENAME TO gone")
    run(request(here, DAY, now=NOW))
    assert numbers(tmp_path)["last_run_result failed"] == 1
