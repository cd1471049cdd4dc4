"""Jobs that an operator has paused: their slots wait for every clock, and are caught up with afterwards."""

import json
from datetime import datetime, timedelta

import pytest

from mauntic_jobs.errors import ExitCode
from mauntic_jobs.installation import Installation
from mauntic_jobs.ops.monitor.conditions.slots import slots_missed
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.runner.job_pause import JobPause, pause_job, resume_job
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping.catch_up import Which
from tests.scheduler.ticking import TABLE, look, ticking
from tests.support import run_program, utc

BEGIN = utc("2026-10-05T10:00:05")
JOB = "aggregate-hourly"


@pytest.fixture
def ready(session: Session) -> Session:
    session.execute(TABLE)
    return session


def accounts(session: Session) -> dict[int, str]:
    """Return how the slots that a run or a record answers ended, by their hours."""
    return {row["slot"].hour: row["status"] for row in list_runs(session, limit=1000) if row["claims_slot"]}


def pause(session: Session, job: str, until: datetime) -> None:
    pause_job(session, job, JobPause(until, "migration", "ops on host"), BEGIN)


@pytest.mark.parametrize(
    ("which", "within", "found"),
    [
        (Which.ALL, 48, {10: "succeeded", 11: "succeeded", 12: "succeeded", 13: "succeeded", 14: "succeeded"}),
        (Which.LATEST, 48, {10: "succeeded", 11: "superseded", 12: "superseded", 13: "superseded", 14: "succeeded"}),
        (Which.ALL, 2, {10: "succeeded", 11: "missed", 12: "missed", 13: "succeeded", 14: "succeeded"}),
    ],
)
def test_slots_wait_for_the_end_of_a_pause_and_are_caught_up_with(
    settings: Settings, ready: Session, which: Which, within: int, found: dict[int, str]
) -> None:
    job = ticking("hourly", "0 * * * *", which, timedelta(hours=within))
    look(settings, BEGIN, job)
    pause(ready, "hourly", utc("2026-10-05T13:30"))
    for minutes in range(20, 200, 20):
        look(settings, BEGIN + timedelta(minutes=minutes), job)
    assert accounts(ready) == {10: "succeeded"}
    look(settings, BEGIN + timedelta(hours=4), job)
    assert accounts(ready) == found


def test_a_pause_can_be_ended_early_and_set_anew(settings: Settings, ready: Session) -> None:
    job = ticking("hourly", "0 * * * *", Which.ALL, timedelta(hours=48))
    look(settings, BEGIN, job)
    pause(ready, "hourly", utc("2026-10-06T00:00"))
    pause(ready, "hourly", utc("2026-10-07T00:00"))
    look(settings, BEGIN + timedelta(days=1), job)
    assert accounts(ready) == {10: "succeeded"}
    resume_job(ready, "hourly")
    look(settings, BEGIN + timedelta(hours=2), job)
    assert accounts(ready) == dict.fromkeys((10, 11, 12), "succeeded")


def test_a_job_that_was_never_run_can_be_paused(settings: Settings, ready: Session) -> None:
    job = ticking("hourly", "0 * * * *", Which.ALL, timedelta(hours=48))
    pause(ready, "hourly", utc("2026-10-05T13:30"))
    look(settings, BEGIN, job)
    assert accounts(ready) == {}
    look(settings, BEGIN + timedelta(hours=4), job)
    assert accounts(ready) == {14: "succeeded"}


def test_a_paused_job_is_not_overdue(settings: Settings, ready: Session) -> None:
    job = ticking("hourly", "0 * * * *", Which.ALL, timedelta(hours=48))
    look(settings, BEGIN, job)
    pause(ready, "hourly", BEGIN + timedelta(hours=5))
    later = BEGIN + timedelta(hours=3)
    assert slots_missed(Installation(settings, later, [job], session=ready)) == []
    (alert,) = slots_missed(Installation(settings, BEGIN + timedelta(hours=6), [job], session=ready))
    assert "overdue" in alert.summary


def test_a_line_of_a_crontab_waits_and_a_run_by_hand_does_not(direct_settings: Settings, session: Session) -> None:
    paused = run_program("schedule", "pause", JOB, "--for", "2h", "--why", "migration", settings=direct_settings)
    assert (paused.returncode, "paused until " in paused.stdout) == (ExitCode.DONE, True)
    line = run_program(JOB, "--slot", "latest", settings=direct_settings)
    assert line.returncode == ExitCode.DONE
    assert "Its slots wait until then." in line.stdout + line.stderr
    assert list_runs(session) == []
    by_hand = run_program(JOB, "--last", "2h", settings=direct_settings)
    assert by_hand.returncode == ExitCode.DONE, by_hand.stderr
    assert [row["status"] for row in list_runs(session)] == ["succeeded"]
    resumed = run_program("schedule", "resume", JOB, settings=direct_settings)
    assert "was paused until " in resumed.stdout
    again = run_program("schedule", "resume", JOB, settings=direct_settings)
    assert again.stdout == f"{JOB}: was not paused\n"
    line = run_program(JOB, "--slot", "latest", settings=direct_settings)
    assert (line.returncode, len(list_runs(session))) == (ExitCode.DONE, 2)


def test_a_pause_is_shown_in_red_with_its_end(direct_settings: Settings) -> None:
    until = ("--until", "2099-01-01T09:30")
    run_program("schedule", "pause", JOB, *until, "--why", "migration", settings=direct_settings)
    status = json.loads(run_program("status", "--json", settings=direct_settings).stdout)
    (finding,) = [each for each in status["findings"] if each["subject"] == JOB]
    assert finding["urgent"]
    assert finding["text"].startswith("paused until 2099-01-01 09:30 UTC, by ")
    assert finding["text"].endswith(": migration")
    assert finding["command"] == f"mauntic-jobs schedule resume {JOB}"
    listed = run_program("schedule", "list", settings=direct_settings)
    assert f"{JOB}: paused until 2099-01-01 09:30 UTC" in listed.stderr


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((JOB,), "Say until when"),
        ((JOB, "--for", "2h", "--until", "2099-01-01"), "either --until or --for"),
        ((JOB, "--until", "2020-01-01"), "is past"),
        ((JOB, "--until", "soon"), "Cannot read"),
        (("aggregate-hurly", "--for", "2h"), "aggregate-hourly"),
    ],
)
def test_bad_input_says_what_to_do(direct_settings: Settings, arguments: tuple[str, ...], error: str) -> None:
    done = run_program("schedule", "pause", *arguments, "--why", "w", settings=direct_settings)
    assert (done.returncode, error in done.stderr) == (ExitCode.USAGE, True), done.stderr
