"""The doctor: each fault leads to its finding, and to no other."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from mauntic_jobs.delivery.sending.providers.config import encrypt
from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.ops.doctor.checks import crontab, fly, providers
from mauntic_jobs.ops.doctor.checks.grants import DELIVERING, RUNNING_JOBS
from mauntic_jobs.scheduler.upkeep import TASKS
from mauntic_jobs.settings.settings import Settings
from tests.ops import faults
from tests.ops.faults import FAULTS, Fault
from tests.ops.rig import KEY, Rig, sound
from tests.support import build_program
from tests.valkey import valkey


@pytest.fixture(scope="module")
def own_redis(servers: Servers) -> Iterator[str]:
    with valkey(servers, "doctor", "appendonly yes") as url:
        yield url


@pytest.fixture
def rig(direct_settings: Settings, own_redis: str, tmp_path: Path) -> Iterator[Rig]:
    with sound(direct_settings, own_redis, tmp_path) as made:
        yield made
        made.redis.replicaof("NO", "ONE")
        for name, value in {"appendonly": "yes", "maxmemory": "0", "maxmemory-policy": "noeviction"}.items():
            made.redis.config_set(name, value)
        made.redis.flushall()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.spoil.__name__)
def test_a_fault_leads_to_its_finding_and_exit_code(rig: Rig, fault: Fault) -> None:
    fault.spoil(rig)
    code, report = rig.examine()
    (finding,) = [each for each in report["findings"] if each["severity"] != "ok"]
    assert (finding["severity"], finding["area"], finding["check"]) == (fault.severity, fault.area, fault.check)
    assert fault.words in finding["what"]
    assert finding["to_do"] or fault.severity == "not_checked"
    assert code == (ExitCode.FAILED if fault.severity == "error" else ExitCode.DONE)


def test_nothing_is_wrong_with_a_sound_installation(rig: Rig) -> None:
    code, report = rig.examine()
    assert [each for each in report["findings"] if each["severity"] != "ok"] == []
    assert (code, report["error"], report["warning"], report["not_checked"]) == (ExitCode.DONE, 0, 0, 0)
    assert report["ok"] == len(report["findings"])


@pytest.mark.parametrize(
    ("fault", "service", "words"),
    [
        (faults.postgres_away, "Postgres", "Cannot reach Postgres"),
        (faults.unknown_database, "Postgres", "refused the connection"),
        (faults.no_database, "Postgres", "There is no database to work on"),
        (faults.redis_away, "Redis", "Cannot reach Redis"),
        (faults.redis_password, "Redis", "refused the login"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_service_that_is_not_reached_is_one_error_and_keeps_no_other_check_from_being_made(
    rig: Rig, fault: Callable[[Rig], None], service: str, words: str
) -> None:
    fault(rig)
    code, report = rig.examine()
    assert (code, report["error"], report["warning"]) == (ExitCode.FAILED, 1, 0)
    (found,) = [each for each in report["findings"] if each["severity"] == "error"]
    assert (found["area"], found["check"], words in found["what"]) == (service.lower(), "connection", True)
    assert found["to_do"]
    left_out = [each for each in report["findings"] if each["severity"] == "not_checked"]
    assert {each["what"] for each in left_out} == {f"{service} was not reached"}
    checked = {each["area"] for each in report["findings"] if each["severity"] == "ok"}
    assert {"redis" if service == "Postgres" else "postgres", "jobs", "crontab", "fly"} <= checked
    assert "hunter2" not in str(report)


def test_a_job_that_is_none_in_the_crontab_is_named_beside_the_one_that_is_missing(rig: Rig) -> None:
    faults.crontab_strange(rig)
    _, report = rig.examine()
    found = [each["what"].partition("crontab")[2] for each in report["findings"] if each["severity"] == "error"]
    assert found == [", line 10: there is no job count-hourly", " has no line for aggregate-hourly"]


def test_a_crontab_may_be_written_in_other_ways(rig: Rig) -> None:
    (rig.directory / "crontab").write_text(
        "MAILTO=ops@example.com\n"
        "@hourly mauntic-jobs aggregate-hourly\n"
        "0 2 * * *\troot\tcd / && /opt/mauntic-jobs/bin/mauntic-jobs generate-daily-reports --slot latest\n"
        "0  3  1 * * python -m mauntic_jobs monthly-usage-summary\n"
        "@hourly mauntic-jobs segment-trigger-eval\n"
        "# 0 9 * * * mauntic-jobs stale-execution-cleanup\n"
        "0 3 * * * mauntic-jobs stale-execution-cleanup\n"
        "@midnight mauntic-jobs warmup-daily-reset; true\n"
        "30 4 * * * mauntic-jobs runs list\n"
        "30 5 * * * mauntic-jobs  ; true\n"
    )
    assert rig.examine()[1]["error"] == 0


def test_the_crontab_of_the_user_is_looked_at_where_no_file_is_named(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    program = rig.directory / "bin/crontab"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n[ "$1" = -l ] && echo "5 * * * * mauntic-jobs aggregate-hourly"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.chdir(rig.directory / "scripts")
    rig.arguments = []
    found = [each for each in rig.examine()[1]["findings"] if each["severity"] == "error"]
    assert [each["area"] for each in found] == ["crontab", "crontab"]
    assert found[0]["what"].startswith("the crontab of this user, line 1: aggregate-hourly is called at `5 * * * *`")


def test_a_slow_name_server_is_not_taken_for_a_slow_postgres(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.provider("custom_smtp", encrypt({"host": "slow.example.com"}, KEY))
    rig.provider("custom_smtp", encrypt({"host": "10.0.0.1"}, KEY))
    answer, ask = Event(), socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        return answer.wait() and [] if host == "slow.example.com" else ask(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(providers, "_LOOKUP_SECONDS", 2.0)
    private = "the host '10.0.0.1' is in a private network: see the setting allowed_networks"
    code, report = rig.examine()
    answer.set()
    found = [(each["check"], each["severity"], each["what"]) for each in report["findings"] if each["severity"] != "ok"]
    assert found == [
        ("hosts", "warning", f"1 SMTP host out of reach: {private}"),
        ("hosts", "not_checked", "1 SMTP host not looked up within 2 s"),
    ]
    assert code == ExitCode.DONE


def test_one_line_for_the_schedule_needs_no_others(rig: Rig) -> None:
    (rig.directory / "crontab").write_text("* * * * * /opt/mauntic-jobs/bin/mauntic-jobs schedule run --quiet\n")
    assert rig.examine()[1]["error"] == 0


def _unwatched(rig: Rig) -> list[int]:
    """Return how many tasks the findings name that nothing runs, finding by finding."""
    found = [each["what"] for each in rig.examine()[1]["findings"] if "no clock runs that" in each["what"]]
    return [text.count("`") // 2 for text in found]


def test_the_line_of_the_readme_is_enough_to_watch_and_prune(rig: Rig) -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    (lines,) = re.findall(r"```crontab\n(.+?)```", readme, re.DOTALL)
    (rig.directory / "crontab").write_text(lines)
    assert (len(lines.splitlines()), _unwatched(rig)) == (1, [])


def test_without_upkeep_a_unit_or_a_clock_elsewhere_has_to_watch_and_prune(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (rig.directory / "crontab").write_text("* * * * * mauntic-jobs schedule run --quiet\n")
    monkeypatch.setattr(crontab, "_UNITS", (rig.directory,))
    rig.variables["MAUNTIC_UPKEEP"] = "false"
    assert _unwatched(rig) == [3]
    units = [rig.directory / f"mauntic-jobs-{task.name}.service" for task in TASKS]
    for unit in units:
        unit.write_text("[Unit]")
    assert _unwatched(rig) == []
    units[0].unlink()
    assert _unwatched(rig) == [1]
    rig.execute(
        "INSERT INTO mauntic_jobs.upkeep (task, claimed_by, started_at, ends_by) VALUES ('monitor', 'h', now(), now())"
    )
    assert _unwatched(rig) == []


def test_the_documented_grants_are_those_that_are_looked_for() -> None:
    text = (Path(__file__).parents[3] / "docs/database.md").read_text()
    blocks = re.findall(r"```sql\n(.+?)```", text, re.DOTALL)
    for block, grants in zip(blocks, (RUNNING_JOBS, DELIVERING), strict=True):
        documented = re.findall(r"GRANT (.+) ON (?:(DATABASE|SCHEMA|SEQUENCE) )?(.+) TO jobs;", block)
        assert [(what, kind or "TABLE", names) for what, kind, names in documented] == [tuple(each) for each in grants]


def test_what_commands_that_stay_take_to_end_is_what_is_compared_with_fly() -> None:
    commands = build_program().commands
    for command in (commands["work"], commands["deliver"], commands["schedule"].commands["run"]):
        assert [each.default for each in command.params if each.name == "drain_timeout"] == [fly._DRAIN]


def test_modules_that_each_start_compiles_are_found_with_the_command_that_compiles_them(
    rig: Rig, tmp_path: Path
) -> None:
    where = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": str(tmp_path / "compiled")}
    done = subprocess.run(
        [sys.executable, "-m", "mauntic_jobs", "doctor", "--json", *rig.arguments],
        env={**os.environ, **rig.variables, **where},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ExitCode.DONE, done.stderr
    (finding,) = [each for each in json.loads(done.stdout)["findings"] if each["severity"] != "ok"]
    assert (finding["severity"], finding["area"], finding["check"]) == ("warning", "program", "compiled")
    assert re.match(r"each start of the program compiles (\d+) of \1 modules", finding["what"])
    folders = finding["to_do"].rpartition(" -q ")[2].split()
    assert str(Path(json.__file__).parent.parent) in folders
