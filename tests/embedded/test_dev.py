"""Kept servers are found by every process, keep their data, and survive accidents with their state."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
import redis

from mauntic_jobs.embedded import dev, directories as home, file_locks as locks
from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ConfigurationError
from tests.support import wait_until

UP = "from mauntic_jobs.embedded import dev; print(dev.up().pid)"
USER = """
import sys
from mauntic_jobs.embedded import dev
with dev.running_or_started() as servers:
    print(servers.pid, flush=True)
    sys.stdin.read()
"""
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")


def make_place() -> Path:
    """Make a directory that the servers' account can enter, which a pytest directory of root is not."""
    place = Path(tempfile.mkdtemp(prefix="dev-test-"))
    place.chmod(0o755)
    return place


@pytest.fixture(scope="module")
def shared_place() -> Iterator[Path]:
    """Make a place for data that is initialized once for most of the tests."""
    place = make_place()
    yield place
    shutil.rmtree(place)


@pytest.fixture(autouse=True)
def directory(shared_place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Name the directory for kept servers, none of which run."""
    path = shared_place / "dev"
    monkeypatch.setenv("MAUNTIC_DEV_DIR", str(path))
    yield path
    monkeypatch.setenv("MAUNTIC_DEV_DIR", str(path))
    dev.down()


@pytest.fixture
def new_directory(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Name another directory, which does not exist yet."""
    place = make_place()
    path = place / directory.name
    monkeypatch.setenv("MAUNTIC_DEV_DIR", str(path))
    yield path
    if (path / home.LOCK).exists():
        dev.down()
    shutil.rmtree(place)


def start(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def line_of(process: subprocess.Popen[str]) -> str:
    return str(cast("Any", process.stdout).readline()).strip()


def write(servers: Servers) -> None:
    with psycopg.connect(servers.database_url) as connection, redis.Redis.from_url(servers.redis_url) as client:
        connection.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 42 AS answer")
        client.set("kept", "42")


def has_data(servers: Servers) -> bool:
    with psycopg.connect(servers.database_url) as connection, redis.Redis.from_url(servers.redis_url) as client:
        table = connection.execute("SELECT to_regclass('kept')").fetchone()
        return (table, client.get("kept")) == (("kept",), b"42")


def test_without_servers_there_is_no_status_and_nothing_to_stop(new_directory: Path) -> None:
    assert dev.status() is None
    assert dev.down() is False
    assert not new_directory.exists()


def test_up_finds_running_servers_and_down_stops_them(directory: Path) -> None:
    servers = dev.up()
    assert dev.up() == servers == dev.status()
    assert servers.directory == directory
    assert dev.down() is True
    assert dev.status() is None
    assert dev.down() is False


def test_servers_outlive_the_process_that_started_them_and_hold_none_of_its_pipes() -> None:
    done = subprocess.run([sys.executable, "-c", UP], capture_output=True, text=True, check=True, timeout=60)
    running = dev.status()
    assert running is not None
    assert running.pid == int(done.stdout)


def test_data_is_kept_durably_until_it_is_deleted(new_directory: Path) -> None:
    first = dev.up()
    write(first)
    with psycopg.connect(first.database_url) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
    dev.down()
    assert has_data(dev.up())
    assert dev.down(delete=True) is True
    assert {path.name for path in new_directory.iterdir()} <= {"lock", "users", "binaries"}
    assert not has_data(dev.up())


def test_an_interrupted_initialization_is_done_again(new_directory: Path) -> None:
    home.kept_directory()
    (new_directory / "postgres.new" / "base").mkdir(parents=True)
    write(dev.up())


@pytest.mark.usefixtures("new_directory")
def test_two_at_once_start_one_pair() -> None:
    starters = [start(UP) for _ in range(2)]
    pids = {starter.communicate()[0] for starter in starters}
    running = dev.status()
    assert running is not None
    assert pids == {f"{running.pid}\n"}


def test_state_left_by_a_killed_supervisor_is_not_believed(directory: Path) -> None:
    first = dev.up()
    write(first)
    state = (directory / "state.json").read_text()
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: not locks.is_held(directory), "the end of the supervisor")
    assert (directory / "state.json").read_text() == state
    assert dev.status() is None
    assert dev.down() is False
    second = dev.up()
    assert second.pid != first.pid
    assert has_data(second)


def test_state_that_names_some_other_living_process_is_not_believed(directory: Path) -> None:
    home.kept_directory()
    state = {"database_url": "", "redis_url": "", "directory": str(directory), "pid": os.getpid()}
    (directory / "state.json").write_text(json.dumps(state))
    (directory / "pid").write_text(str(os.getpid()))
    assert dev.status() is None
    assert dev.down() is False


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"database_url": 1, "redis_url": 2, "directory": 3, "pid": "4"}']
)
def test_servers_with_an_unreadable_state_are_replaced(directory: Path, text: str) -> None:
    first = dev.up()
    (directory / "state.json").write_text(text)
    assert dev.status() is None
    second = dev.up()
    assert second.pid != first.pid
    assert dev.status() == second


def test_only_the_owner_can_read_the_state(directory: Path) -> None:
    dev.up()
    assert (directory / "state.json").stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == (0o711 if os.geteuid() == 0 else 0o700)


def test_when_a_server_dies_the_pair_ends_and_up_starts_it_again(directory: Path) -> None:
    first = dev.up()
    write(first)
    os.kill(json.loads((directory / "state.json").read_text())["postgres_pid"], signal.SIGKILL)
    wait_until(lambda: not locks.is_held(directory), "the end of the pair")
    assert dev.status() is None
    assert "Postgres ended (status -9)" in (directory / "supervisor.log").read_text()
    assert has_data(dev.up())


def test_a_symbolic_link_is_refused(new_directory: Path) -> None:
    new_directory.symlink_to(new_directory.parent)
    with pytest.raises(ConfigurationError, match="is not a directory"):
        dev.up()


@root_only
def test_the_directory_of_another_user_is_refused(new_directory: Path) -> None:
    new_directory.mkdir()
    os.chown(new_directory, 12345, 12345)
    for use in (dev.up, dev.status, dev.down):
        with pytest.raises(ConfigurationError, match="belongs to another user"):
            use()


def test_a_directory_with_other_files_is_refused_and_left_as_it_is(new_directory: Path) -> None:
    new_directory.mkdir(mode=0o755)
    (new_directory / "thesis.txt").touch()
    with pytest.raises(ConfigurationError, match="holds other files"):
        dev.up()
    with pytest.raises(ConfigurationError, match="holds other files"):
        dev.down(delete=True)
    assert list(new_directory.iterdir()) == [new_directory / "thesis.txt"]


def test_running_servers_are_used_and_left_running() -> None:
    servers = dev.up()
    with dev.running_or_started() as used:
        assert used == servers
    assert dev.status() == servers


def test_servers_started_for_a_block_have_the_kept_data_and_stop_after_it() -> None:
    write(dev.up())
    dev.down()
    with dev.running_or_started() as servers:
        assert has_data(servers)
        assert dev.status() == servers
    assert dev.status() is None


def test_servers_started_for_a_block_stay_for_whoever_still_uses_them() -> None:
    with start(USER) as other:
        pid = int(line_of(other))
        with dev.running_or_started() as servers:
            assert servers.pid == pid
            other.communicate()
            assert dev.status() == servers
        assert dev.status() is None


def test_up_keeps_servers_that_were_started_for_a_block() -> None:
    with dev.running_or_started() as servers:
        assert dev.up() == servers
    assert dev.status() == servers


def test_servers_started_for_a_block_stop_when_their_last_user_is_killed(directory: Path) -> None:
    with start(USER) as user:
        line_of(user)
        user.kill()
    wait_until(lambda: not locks.is_held(directory), "the end of the servers")
    assert dev.status() is None


def test_a_start_that_was_killed_does_not_leave_servers(new_directory: Path) -> None:
    with start(UP) as starter:
        wait_until((new_directory / "initdb.log").exists, "initdb")
        starter.kill()
    wait_until(lambda: not locks.is_held(new_directory), "the end of the servers")
    assert not (new_directory / "state.json").exists()
