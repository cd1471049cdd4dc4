"""`schedule` on the command line: what it shows, and what it refuses."""

import json
from datetime import timedelta
from typing import Any

import pytest

from mauntic_jobs.errors import ExitCode
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.cron import latest_slot
from mauntic_jobs.timekeeping.window import Unit
from tests.support import run_program, scheduled_only

_SETTLED = b"INSERT INTO mauntic_jobs.schedules (job, cron, settled) VALUES (%(job)s, %(cron)s, %(at)s)"


def _leave_due(settings: Settings, job: str, hours: int) -> None:
    at = latest_slot(JOBS[job].cron, clock.now()) - timedelta(hours=hours)
    with connect(settings) as session:
        session.execute(_SETTLED, {"job": job, "cron": JOBS[job].cron, "at": at})


def test_the_list_tells_each_jobs_line_in_words_and_what_is_overdue(direct_settings: Settings) -> None:
    _leave_due(direct_settings, "aggregate-hourly", 24 * 9)
    for arguments in (("schedule",), ("schedule", "list")):
        done = run_program(*arguments, settings=direct_settings)
        assert done.returncode == ExitCode.DONE
        lines = done.stdout.splitlines()
        assert [line.split()[0] for line in lines[1:]] == list(JOBS)
        assert "0 2 * * *  At 02:00" in done.stdout
        assert "0 3 1 * *  At 03:00, on day 1 of the month" in done.stdout
        assert "aggregate-hourly: overdue since" in done.stderr
        assert "slots missed within 30 days" in done.stderr


@pytest.mark.usefixtures("same_hour")
def test_the_list_as_json_holds_everything(direct_settings: Settings) -> None:
    run_program("aggregate-hourly", "--slot", "latest", settings=direct_settings)
    shown = json.loads(run_program("schedule", "list", "--json", settings=direct_settings).stdout)
    hourly = next(each for each in shown if each["job"] == "aggregate-hourly")
    assert (hourly["meaning"], hourly["catch_up"], hourly["due"]) == ("Every hour", "all/7d", [])
    assert hourly["last"]["status"] == "succeeded"
    assert len(hourly["clocks"]) == 1


def test_the_next_slots_need_no_database() -> None:
    done = run_program("schedule", "next", "-n", "3", "--job", "monthly-usage-summary", "--json")
    slots = [row["slot"] for row in json.loads(done.stdout)]
    assert len(slots) == 3
    assert all("-01T03:00:00+00:00" in slot for slot in slots)


def test_what_is_due_is_run_once(direct_settings: Settings) -> None:
    _leave_due(direct_settings, "generate-daily-reports", 72)
    only: dict[str, Any] = {"settings": direct_settings, "MAUNTIC_JOBS": scheduled_only("generate-daily-reports")}
    rehearsed = json.loads(run_program("schedule", "run", "--dry-run", "--json", **only).stdout)
    assert [run["status"] for run in rehearsed["runs"]] == ["dry-run"] * 3
    done = json.loads(run_program("schedule", "run", "--json", **only).stdout)
    assert [(run["job"], run["status"]) for run in done["runs"]] == [("generate-daily-reports", "succeeded")] * 3
    again = run_program("schedule", "run", **only)
    assert (again.returncode, again.stdout, again.stderr) == (ExitCode.DONE, "", "nothing is due\n")
    quiet = run_program("schedule", "run", "--quiet", **only)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (ExitCode.DONE, "", "")


def test_a_slot_by_hand_has_to_be_one_that_has_struck(direct_settings: Settings) -> None:
    hour = Unit.HOUR.floor(clock.now())
    for slot, words in (
        ((hour + timedelta(hours=2)).isoformat(), "is in the future"),
        ((hour - timedelta(minutes=30)).isoformat(), "is no slot of `0 * * * *`"),
        ("soon", "Cannot read 'soon' as a time"),
    ):
        done = run_program("aggregate-hourly", "--slot", slot, settings=direct_settings)
        assert (done.returncode, words in done.stderr) == (ExitCode.USAGE, True), done.stderr
    done = run_program("aggregate-hourly", "--slot", hour.isoformat(), settings=direct_settings)
    assert done.returncode == ExitCode.DONE
    again = run_program("aggregate-hourly", "--slot", "latest", "--quiet", settings=direct_settings)
    assert (again.returncode, again.stdout, again.stderr) == (ExitCode.DONE, "", "")


@pytest.mark.parametrize(
    ("jobs", "words"),
    [
        (
            '{"aggregate-hourly": {"cron": "61 * * * *"}}',
            "jobs.aggregate-hourly.cron (from environment): '61 * *",
        ),
        ('{"aggregate-hourly": {"catch_up": "some"}}', "write none, latest/24h or all/48h"),
        ('{"aggregate-hurly": {"cron": "1 * * * *"}}', "name aggregate-hurly, and there is no such job"),
    ],
)
@pytest.mark.parametrize("command", [("list",), ("next",), ("run",), ("run", "--loop")], ids=" ".join)
def test_settings_that_cannot_be_used_are_refused_at_the_start(
    direct_settings: Settings, command: tuple[str, ...], jobs: str, words: str
) -> None:
    done = run_program("schedule", *command, settings=direct_settings, MAUNTIC_JOBS=jobs)
    assert (done.returncode, words in done.stderr) == (ExitCode.CONFIGURATION, True), done.stderr


def test_an_unknown_job_is_named_with_those_there_are() -> None:
    done = run_program("schedule", "next", "--job", "nonsense")
    assert (done.returncode, "There is no job nonsense. The jobs are: aggregate-hourly" in done.stderr) == (2, True)


def test_without_a_database_it_says_so_after_the_retries() -> None:
    away = Settings(database_url="postgresql://nobody@127.0.0.1:1/none")
    done = run_program("schedule", "run", settings=away)
    assert done.returncode == ExitCode.UNAVAILABLE
    assert done.stderr.count("the next attempt follows in") == 3
