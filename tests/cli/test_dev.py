"""`dev` keeps servers, says where they are, and passes psql on to them."""

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support import run_program

Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """Make a directory that the servers' account can enter, which a pytest directory of root is not."""
    path = Path(tempfile.mkdtemp(prefix="dev-cli-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def program(place: Path) -> Iterator[Program]:
    """Return what runs the program with kept servers of its own, which have stopped in the end."""

    def run(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return run_program(*arguments, settings=None, MAUNTIC_DEV_DIR=str(place / "dev"), **extra)

    yield run
    run("dev", "down", "--delete")


def _exported(output: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in shlex.split(output) if word != "export")


def test_up_prints_what_a_shell_can_evaluate_and_brings_the_database_up_to_date(program: Program) -> None:
    started = program("dev", "up")
    assert started.returncode == 0
    exported = _exported(started.stdout)
    assert list(exported) == ["DATABASE_URL", "REDIS_URL"]
    assert program("db", "status", **exported).returncode == 0
    assert program("db", "status", "--embedded").returncode == 0


def test_up_again_changes_nothing(program: Program) -> None:
    assert program("dev", "up").stdout == program("dev", "up").stdout


def test_several_at_once_start_one_pair_of_servers(program: Program) -> None:
    with ThreadPoolExecutor() as pool:
        started = list(pool.map(lambda _: program("dev", "up"), range(3)))
    assert [each.returncode for each in started] == [0, 0, 0]
    assert len({each.stdout for each in started}) == 1


def test_the_sample_is_loaded_once(program: Program) -> None:
    first = program("dev", "up", "--sample")
    assert "events of 6 organizations" in first.stderr
    second = program("dev", "up", "--sample")
    assert (second.returncode, second.stdout) == (0, first.stdout)
    assert "no sample was loaded" in second.stderr
    aggregated = program("aggregate-hourly", "--date", "yesterday", "--json", "--embedded")
    assert json.loads(aggregated.stdout)["runs"][0]["counters"]["inserted"] > 0


def test_status_tells_where_the_servers_are_and_exits_3_when_they_are_not_running(program: Program) -> None:
    stopped = program("dev", "status", "--json")
    assert (stopped.returncode, json.loads(stopped.stdout)) == (3, {"running": False})
    exported = _exported(program("dev", "up").stdout)
    running = program("dev", "status", "--json")
    assert running.returncode == 0
    state = json.loads(running.stdout)
    assert (state["running"], state["database_url"], state["redis_url"]) == (
        True,
        exported["DATABASE_URL"],
        exported["REDIS_URL"],
    )
    os.kill(state["pid"], 0)
    assert exported["REDIS_URL"] in program("dev", "status").stdout


def test_down_stops_them_and_keeps_their_data_unless_told_to_delete_it(program: Program) -> None:
    program("dev", "up")
    program("dev", "psql", "-c", "CREATE TABLE kept ()")
    assert program("dev", "down").stdout == "The servers have stopped.\n"
    assert program("dev", "down").stdout == "No servers were running.\n"
    program("dev", "up")
    assert program("dev", "psql", "-c", "TABLE kept").returncode == 0
    assert "deleted" in program("dev", "down", "--delete").stdout
    program("dev", "up")
    assert "does not exist" in program("dev", "psql", "-c", "TABLE kept").stderr


def test_psql_gets_the_arguments_and_gives_its_exit_code(program: Program) -> None:
    program("dev", "up")
    assert program("dev", "psql", "-Atc", "SELECT 6 * 7").stdout == "42\n"
    assert program("dev", "psql", "-At", "--command", "SELECT current_database()").stdout == "mauntic\n"
    assert program("dev", "psql", "-v", "ON_ERROR_STOP=1", "-c", "SELECT 1 / 0").returncode == 1


def test_psql_goes_to_the_development_servers_whatever_the_environment_says(program: Program) -> None:
    program("dev", "up")
    elsewhere = {"PGHOST": "nowhere.invalid", "PGSERVICE": "other", "PGSSLMODE": "verify-full"}
    assert program("dev", "psql", "-Atc", "SELECT 1", **elsewhere).stdout == "1\n"


def test_psql_shows_no_password_to_other_users(program: Program) -> None:
    password = urlsplit(_exported(program("dev", "up").stdout)["DATABASE_URL"]).password
    listing = program("dev", "psql", "-c", r"\! ps -eo args").stdout
    assert password
    assert "psql -c" in listing
    assert password not in listing


def test_psql_without_servers_says_how_to_start_them(program: Program) -> None:
    finished = program("dev", "psql")
    assert finished.returncode == 69
    assert "mauntic-jobs dev up" in finished.stderr
