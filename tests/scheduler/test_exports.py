"""The generated files: equal to the registry, and understood by those who read them."""

import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from mauntic_jobs.errors import ExitCode
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.timekeeping.cron import check_cron
from tests.support import build_program, run_program

_ROOT = Path(__file__).parent.parent.parent
_APPS = ("analytics-aggregator", "delivery-engine", "journey-executor")


def _parsed(app_name: str) -> dict[str, Any]:
    return tomllib.loads((_ROOT / f"fly/{app_name}.toml").read_text())


@pytest.mark.parametrize("kind", ["crontab", "fly", "systemd"])
def test_the_files_here_are_what_the_registry_gives(kind: str) -> None:
    done = run_program("schedule", "export", kind, "--check", "--output", str(_ROOT))
    assert (done.returncode, done.stderr) == (ExitCode.DONE, "")


@pytest.mark.parametrize("kind", ["crontab", "fly", "systemd"])
def test_a_file_that_differs_is_named_and_left_alone(kind: str, tmp_path: Path) -> None:
    run_program("schedule", "export", kind, "--output", str(tmp_path))
    file = next(path for path in sorted(tmp_path.rglob("*")) if path.is_file())
    file.write_text("changed")
    done = run_program("schedule", "export", kind, "--check", "--output", str(tmp_path))
    assert done.returncode == ExitCode.REFUSED
    assert str(file.relative_to(tmp_path)) in done.stderr
    assert file.read_text() == "changed"
    again = run_program("schedule", "export", kind, "--output", str(tmp_path))
    assert again.stdout == f"wrote {file}\n"


def test_settings_decide_the_lines(tmp_path: Path) -> None:
    jobs = '{"aggregate-hourly": {"cron": "7 * * * *"}}'
    done = run_program("schedule", "export", "crontab", "--output", str(tmp_path), MAUNTIC_JOBS=jobs)
    assert done.returncode == ExitCode.DONE
    assert "\n7 * * * * mauntic-jobs aggregate-hourly --slot latest" in (tmp_path / "crontab").read_text()


def test_a_directory_that_cannot_be_written_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "fly").write_text("a file")
    done = run_program("schedule", "export", "fly", "--output", str(tmp_path))
    assert (done.returncode, "Cannot write" in done.stderr) == (ExitCode.CONFIGURATION, True)


def _command_of(words: list[str]) -> str:
    """Return the name of a command, whose options exist."""
    node: Any = build_program()
    name: list[str] = []
    while words and words[0] in getattr(node, "commands", {}):
        name.append(words[0])
        node = node.commands[words.pop(0)]
    known = {option for parameter in node.params for option in parameter.opts}
    assert not hasattr(node, "commands")
    assert {word for word in words if word.startswith("-")} <= known
    return " ".join(name)


def test_every_job_and_every_watch_has_one_line_in_the_crontab_that_the_program_understands() -> None:
    lines = [line for line in (_ROOT / "crontab").read_text().splitlines() if re.match(r"[\d*]", line)]
    found = {}
    for line in lines:
        *fields, rest = line.split(maxsplit=5)
        program, *words = shlex.split(rest)
        assert (program, "%" in line) == ("mauntic-jobs", False)
        found[_command_of(words)] = check_cron(" ".join(fields))
    upkeep = {
        **dict.fromkeys(("monitor run", "outbox publish"), "* * * * *"),
        "db prune": "30 4 * * *",
        "verify": "0 5 * * *",
    }
    assert found == {**{name: job.cron for name, job in JOBS.items()}, **upkeep}
    assert len(lines) == len(found)


def test_the_units_run_every_process_of_an_installation() -> None:
    units = {path.name: path.read_text() for path in (_ROOT / "systemd").iterdir()}
    commands = re.findall(r"^ExecStart=/opt/mauntic-jobs/bin/mauntic-jobs (.+)$", "".join(units.values()), re.MULTILINE)
    found = sorted(_command_of(shlex.split(command)) for command in commands)
    assert found == ["deliver", "schedule run"]
    started = re.search(r"^Wants=(.+)$", units["mauntic-jobs.target"], re.MULTILINE)
    assert started
    assert {*started[1].split(), "mauntic-jobs.target"} == set(units)


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not installed")
    for path in (_ROOT / "systemd").iterdir():
        (tmp_path / path.name).write_text(path.read_text().replace("/opt/mauntic-jobs/bin/mauntic-jobs", "/bin/true"))
    files = [str(path) for path in tmp_path.iterdir()]
    done = subprocess.run([verify, "verify", *files], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", _APPS)
def test_a_fly_app_stops_softly_and_is_checked(name: str) -> None:
    parsed = _parsed(name)
    assert (parsed["app"], parsed["kill_signal"]) == (name, "SIGTERM")
    assert 25 < parsed["kill_timeout"] <= 300
    assert parsed["restart"] == [{"policy": "always"}]
    assert parsed["checks"]["health"]["port"] == int(parsed["env"]["PORT"])
    assert parsed["checks"]["health"]["path"] == "/health"
    assert (_ROOT / "fly" / parsed["build"]["dockerfile"]).resolve() == _ROOT / "Dockerfile"
    assert not {"DATABASE_URL", "REDIS_URL"} & set(parsed["env"])


def test_the_apps_consume_every_queue_once() -> None:
    words = [word for name in _APPS for word in _parsed(name)["processes"]["worker"].split()]
    assert sorted(word for word in words if ":" in word) == sorted(job.queue for job in JOBS.values())


def test_the_commands_of_the_machines_exist() -> None:
    machine = json.loads((_ROOT / "fly/hourly-schedule.json").read_text())
    commands = [machine["init"]["cmd"], *(_parsed(name)["processes"]["worker"].split() for name in _APPS)]
    known = build_program().commands
    assert {words[0] for words in commands} <= set(known)
    assert machine["init"]["cmd"] == ["schedule", "run"]
    assert (machine["schedule"], machine["restart"]) == ("hourly", {"policy": "no"})


_FAKE_FLY = """\
#!/bin/sh
echo "$*" >> "$CALLS"
case "$1 $2" in
    "status --app") [ "$3" = analytics-aggregator ] ;;
    "machine list") echo '[{"id": "1a", "name": "other"}, {"id": "2b", "name": "hourly-schedule"}]' ;;
esac
"""


def test_the_script_creates_what_is_not_there_and_replaces_the_clock(tmp_path: Path) -> None:
    fake, calls = tmp_path / "fly", tmp_path / "calls"
    fake.write_text(_FAKE_FLY)
    fake.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls)}
    script = [str(_ROOT / "scripts/fly-machines"), "acme", "fra", "analytics-aggregator", "journey-executor"]
    subprocess.run(script, env=environment, check=True, capture_output=True)
    run = "machine run . --dockerfile Dockerfile --app analytics-aggregator"
    deploy = "deploy . --config fly/{0}.toml --dockerfile Dockerfile --primary-region fra"
    assert calls.read_text().splitlines() == [
        "status --app analytics-aggregator",
        deploy.format("analytics-aggregator"),
        "status --app journey-executor",
        "apps create journey-executor --org acme",
        deploy.format("journey-executor"),
        "machine list --app analytics-aggregator --json",
        "machine destroy 2b --force --app analytics-aggregator",
        f"{run} --region fra --name hourly-schedule --machine-config fly/hourly-schedule.json",
    ]


def test_the_script_without_arguments_says_how_to_call_it() -> None:
    done = subprocess.run([_ROOT / "scripts/fly-machines"], capture_output=True, text=True, check=False)
    assert (done.returncode, "usage:" in done.stderr) == (ExitCode.USAGE, True)
