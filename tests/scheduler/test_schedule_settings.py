"""Schedules that are set in the database: they count for every clock, whatever its settings."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from mauntic_jobs.errors import ConfigurationError, ExitCode
from mauntic_jobs.installation import Installation
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.ops.doctor.check import Site
from mauntic_jobs.ops.doctor.checks.postgres import CONNECTION
from mauntic_jobs.ops.doctor.finding import FindingSeverity
from mauntic_jobs.ops.doctor.run_checks import CHECKS, examine
from mauntic_jobs.ops.monitor.conditions.clocks import lines_taking_turns
from mauntic_jobs.ops.monitor.conditions.slots import slots_missed
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.runner.schedule_settings import store, unset
from mauntic_jobs.scheduler.loop import Loop
from mauntic_jobs.scheduler.overview import read_overview
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.catch_up import Which, parse_catch_up
from mauntic_jobs.timekeeping.cron import latest_slot
from tests.scheduler.ticking import TABLE, look, ticking
from tests.support import run_program, utc

HOURLY = ticking("hourly", "0 * * * *", Which.ALL, timedelta(hours=48))
AT_HALF_PAST = replace(HOURLY, cron="30 * * * *")
HOST_SETTING = '{"aggregate-hourly": {"cron": "7 * * * *"}}'


@pytest.fixture
def ready(session: Session) -> Session:
    session.execute(TABLE)
    return session


def _accounts(session: Session) -> dict[datetime, str]:
    rows = [row for row in list_runs(session, limit=1000) if row["claims_slot"]]
    return {row["slot"]: row["status"] for row in sorted(rows, key=lambda row: row["slot"])}


def test_clocks_with_different_lines_read_the_same_one(settings: Settings, ready: Session) -> None:
    store(ready, "hourly", "15 * * * *", None, settings)
    start = utc("2026-10-05T10:00:05")
    for number in range(13):
        look(settings, start + timedelta(minutes=20 * number), HOURLY if number % 2 else AT_HALF_PAST)
    assert _accounts(ready) == {utc(f"2026-10-05T{hour}:15"): "succeeded" for hour in (10, 11, 12, 13)}
    assert lines_taking_turns(ready, [HOURLY]) == []


def test_the_policy_counts_as_well_and_each_is_left_alone_by_the_other(settings: Settings, ready: Session) -> None:
    store(ready, "hourly", None, parse_catch_up("latest/2h"), settings)
    store(ready, "hourly", "15 * * * *", None, settings)
    look(settings, utc("2026-10-05T10:00:05"), HOURLY)
    look(settings, utc("2026-10-05T14:00:05"), HOURLY)
    assert _accounts(ready) == {
        **{utc(f"2026-10-05T{hour}:15"): "superseded" for hour in (10, 11, 12)},
        utc("2026-10-05T13:15"): "succeeded",
    }


def test_setting_and_unsetting_a_line_leaves_no_slot_without_a_row(settings: Settings, ready: Session) -> None:
    look(settings, utc("2026-10-05T10:00:05"), HOURLY)
    store(ready, "hourly", "*/20 * * * *", None, settings)
    look(settings, utc("2026-10-05T11:00:05"), HOURLY)
    unset(ready, "hourly")
    look(settings, utc("2026-10-05T12:30:05"), HOURLY)
    assert [f"{slot:%H:%M}" for slot in _accounts(ready)] == [
        "10:00",
        "10:20",
        "10:40",
        "11:00",
        "11:20",
        "11:40",
        "12:00",
        "12:20",
    ]


def test_the_monitor_and_the_overview_go_by_the_database(settings: Settings, ready: Session) -> None:
    store(ready, "hourly", "15 * * * *", None, settings)
    look(settings, utc("2026-10-05T10:15:05"), HOURLY)
    own = Settings(**{**settings.model_dump(), "jobs": {"hourly": {"cron": "30 * * * *"}}})
    assert slots_missed(Installation(own, utc("2026-10-05T10:50"), [AT_HALF_PAST], session=ready)) == []
    (overdue,) = slots_missed(Installation(own, utc("2026-10-05T11:25"), [AT_HALF_PAST], session=ready))
    assert "overdue since 2026-10-05 11:15 UTC" in overdue.summary
    (standing,) = read_overview(Installation(own, utc("2026-10-05T10:50"), [AT_HALF_PAST], session=ready))
    assert (standing.job.cron, standing.origin, standing.next) == ("15 * * * *", "database", utc("2026-10-05T11:15"))
    assert standing.overruled == [
        "jobs.hourly.cron is `30 * * * *` in this host's settings, and `15 * * * *` in the database, which counts"
    ]


def test_a_schedule_that_was_written_by_hand_and_cannot_be_read_names_the_job(
    settings: Settings, ready: Session
) -> None:
    ready.execute(b"INSERT INTO mauntic_jobs.schedules (job, wanted_cron) VALUES ('hourly', '5/15 * * * *')")
    with pytest.raises(ConfigurationError, match="The schedule of hourly in the database cannot be used"):
        look(settings, utc("2026-10-05T10:00:05"), HOURLY)


def test_the_command_sets_shows_and_unsets(direct_settings: Settings, tmp_path: Path) -> None:
    job = "aggregate-hourly"
    done = run_program(
        "schedule", "set", job, "--cron", "15 * * * *", settings=direct_settings, MAUNTIC_JOBS=HOST_SETTING
    )
    assert (done.returncode, done.stdout) == (0, f"{job}: `7 * * * *`, all/7d before, `15 * * * *`, all/7d now\n")
    assert "jobs.aggregate-hourly.cron is `7 * * * *` in this host's settings" in done.stderr
    assert "schedule export crontab" in done.stderr
    shown = run_program("schedule", "list", "--json", settings=direct_settings, MAUNTIC_JOBS=HOST_SETTING)
    (hourly,) = [each for each in json.loads(shown.stdout) if each["job"] == job]
    assert (hourly["cron"], hourly["origin"]) == ("15 * * * *", "database")
    listed = run_program("schedule", "list", settings=direct_settings, MAUNTIC_JOBS=HOST_SETTING)
    assert "in the database, which counts" in listed.stderr
    following = run_program("schedule", "next", "--job", job, "--json", settings=direct_settings)
    assert all(":15:00" in row["slot"] for row in json.loads(following.stdout))
    run_program("schedule", "export", "crontab", "--output", str(tmp_path), settings=direct_settings)
    assert f"15 * * * * mauntic-jobs {job} --slot latest" in (tmp_path / "crontab").read_text().replace("  ", "")
    gone = run_program("schedule", "unset", job, "--json", settings=direct_settings)
    after = {"cron": "0 * * * *", "catch_up": "all/7d"}
    assert json.loads(gone.stdout) == {"job": job, "before": {**after, "cron": "15 * * * *"}, "after": after}


def test_the_latest_slot_of_a_crontab_is_that_of_the_database(direct_settings: Settings, session: Session) -> None:
    line = f"{(clock.now() - timedelta(minutes=7)).minute} * * * *"
    job = "stale-execution-cleanup"
    store(session, job, line, None, direct_settings)
    done = run_program(job, "--slot", "latest", "--quiet", settings=direct_settings)
    assert (done.returncode, done.stderr) == (ExitCode.DONE, "")
    (run,) = list_runs(session)
    assert run["slot"] == latest_slot(line, run["started_at"])


def test_a_loop_looks_every_five_minutes_and_names_a_setting_of_its_host_once(
    direct_settings: Settings, session: Session
) -> None:
    job = replace(JOBS["aggregate-hourly"], cron="0 0 1 1 *")
    own = Settings(**{**direct_settings.model_dump(), "jobs": {job.name: {"cron": job.cron}}})
    now, lines = clock.now(), list[str]()
    loop = Loop({job.name: job}, own, lambda: now, lines.append, timedelta())
    loop._look()
    assert (loop._look_at, lines) == (now + timedelta(minutes=5), [])
    store(session, job.name, f"{(now + timedelta(minutes=3)).minute} * * * *", None, own)
    loop._look()
    assert loop._look_at == now, "the line was changed, and its slots are counted at once"
    loop._look()
    assert now + timedelta(minutes=2) < loop._look_at <= now + timedelta(minutes=3, seconds=5)
    loop._look()
    assert [line.partition(" in this")[0] for line in lines if "database" in line] == [
        f"schedule: jobs.{job.name}.cron is `{job.cron}`"
    ]


def test_the_doctor_names_a_host_that_differs_and_compares_the_crontab_with_the_database(
    settings: Settings, session: Session, tmp_path: Path
) -> None:
    job = JOBS["aggregate-hourly"]
    store(session, job.name, "15 * * * *", None, settings)
    own = Settings(**{**settings.model_dump(), "jobs": {job.name: {"cron": "7 * * * *"}}})
    (tmp_path / "crontab").write_text(f"7 * * * * mauntic-jobs {job.name} --slot latest\n")
    site = Site(own, [job.configured(own)], clock.now, tmp_path / "crontab")
    wanted = [check for check in CHECKS if check.area in ("clocks", "crontab") or check is CONNECTION]
    found = [
        each for each in examine(site, wanted) if each.severity in (FindingSeverity.WARNING, FindingSeverity.ERROR)
    ]
    (differs,) = [each for each in found if each.check == "settings"]
    assert "`7 * * * *` in this host's settings, and `15 * * * *` in the database" in differs.what
    (drift,) = [each for each in found if each.severity is FindingSeverity.ERROR]
    assert "is called at `7 * * * *`, and is due at `15 * * * *`" in drift.what


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("aggregate-hourly",), "Give --cron, --catch-up or both."),
        (("aggregate-hourly", "--cron", "5/15 * * * *"), "has a step without a range"),
        (("aggregate-hourly", "--catch-up", "some"), "write none, latest/24h or all/48h"),
        (("nonsense", "--cron", "0 * * * *"), "There is no job nonsense"),
    ],
)
def test_what_cannot_be_set_is_refused(direct_settings: Settings, arguments: tuple[str, ...], words: str) -> None:
    done = run_program("schedule", "set", *arguments, settings=direct_settings)
    assert (done.returncode, words in done.stderr) == (ExitCode.USAGE, True), done.stderr


def test_an_export_says_that_the_database_was_not_read(tmp_path: Path) -> None:
    away = Settings(database_url="postgresql://nobody@127.0.0.1:1/none")
    done = run_program("schedule", "export", "crontab", "--output", str(tmp_path), settings=away)
    assert (done.returncode, "are not in this, because it cannot be read" in done.stderr) == (0, True)
    assert f"{JOBS['aggregate-hourly'].cron} " in (tmp_path / "crontab").read_text()
