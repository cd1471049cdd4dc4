"""Servers and databases for tests: one pair of servers for each worker, one database for each test."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from shutil import disk_usage
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import pytest
from typer import Typer
from typer.main import get_command
from typer.testing import CliRunner, Result

from mauntic_jobs.embedded import die_with_parent as children
from mauntic_jobs.embedded.servers import Servers, throwaway
from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.migrations.upgrade import upgrade
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping import clock
from tests import one_slot, processes, server_mode
from tests.cluster import running_cluster
from tests.installing import build
from tests.kinds import KINDS, kind_of
from tests.pooler import running_pgbouncer
from tests.schemas import check_output
from tests.support import APP, build_program, kill_what_was_started, wait_until

_MEMORY = Path("/dev/shm")  # noqa: S108 - what is made there is made as in any other directory for temporary files
_ROOM_BYTES = 4 * 1024**3

_STORES = ("DATABASE_URL", "DATABASE_READ_URL", "REDIS_URL")

_numbers = count(1)

if "PYTEST_XDIST_WORKER" in os.environ:
    # A worker would otherwise go on, with its servers, after the pytest that started it was killed.
    children.end_with_parent()

# A shell without job control has what it starts in the background ignore these, and so would all that tests start.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number is signal.SIGINT else signal.SIG_DFL)


def pytest_configure(config: pytest.Config) -> None:
    own = {"slow": "takes more than a second of a processor", "waits": "waits for a minute of the clock; begins first"}
    for kind, meaning in (KINDS | own).items():
        config.addinivalue_line("markers", f"{kind}: {meaning}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        assert isinstance(item, pytest.Function)
        item.add_marker(kind_of(item))
    # Other workers use the processors meanwhile. At the end there would be nothing left for them to do.
    items.sort(key=lambda item: item.get_closest_marker("waits") is None)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if (name.startswith("MAUNTIC_") and not name.startswith("MAUNTIC_TEST_")) or name in _STORES:
            monkeypatch.delenv(name)
    # A developer's own mauntic-jobs.toml must not be found; a test that has a directory may write one there.
    own = "tmp_path" in request.fixturenames
    directory = request.getfixturevalue("tmp_path") if own else Path("/nonexistent")
    monkeypatch.setattr("mauntic_jobs.settings.sources.CONFIG_FILES", (directory / "mauntic-jobs.toml",))


@pytest.fixture(autouse=True)
def _environment_ends_with_its_test() -> Iterator[None]:
    """Undo what code of the program sets in this process: a fork server serves only the environment it began with."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture(autouse=True)
def _json_as_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a command that a test runs in its own process print no other JSON than it declares.

    `schedule run` runs jobs only: such a test is not about what the clock runs beside them.
    """
    invoke = CliRunner.invoke

    def checked(self: CliRunner, app: Typer, args: str | Sequence[str] | None = None, **more: Any) -> Result:
        if args and list(args[:2]) == ["schedule", "run"]:
            more["env"] = {"MAUNTIC_UPKEEP": "false", **(more.get("env") or {})}
        result = invoke(self, app, args, **more)
        if args and not isinstance(args, str):
            check_output(args, result.stdout)
        return result

    monkeypatch.setattr(CliRunner, "invoke", checked)


@pytest.fixture(scope="session", autouse=True)
def _commands_built_once() -> Iterator[None]:
    """Keep the commands of the program: to build them takes longer than most tests that call one in their process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.testing._get_command", lambda app: build_program() if app is APP else get_command(app))
        yield


@pytest.fixture(scope="session", autouse=True)
def _forked_processes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if sys.platform == "linux":
            patch.setattr(subprocess, "Popen", processes.Process)
        yield


@pytest.fixture(scope="session", autouse=True)
def _keys_of_one_command_in_one_slot() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        one_slot.hold(patch)
        yield


@pytest.fixture(autouse=True)
def _unit_tests_start_nothing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("unit"):
        wrong = "It starts a program: tests/kinds.py should know what it uses."
        monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail(wrong))


@pytest.fixture(autouse=True)
def _processes_end_with_their_test() -> Iterator[None]:
    yield
    kill_what_was_started()


@pytest.fixture
def started_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the program the way a shell does: by starting Python."""
    monkeypatch.setattr(subprocess, "Popen", processes.Popen)


@pytest.fixture
def same_hour() -> None:
    """Begin in the next hour if this one ends within half a minute: no slot of each hour strikes during the test."""
    wait_until(lambda: (now := clock.now()).minute < 59 or now.second < 30, "the next hour")


@pytest.fixture
def same_day() -> None:
    """Begin tomorrow if this day, in UTC, ends within three minutes: it is the same from the beginning to the end."""
    wait_until(lambda: (now := clock.now()).hour < 23 or now.minute < 57, "the next day", 200)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and return it."""
    return build(tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            # Thousands of databases are made and dropped, which takes a file system on a disk ten times as long.
            if _MEMORY.is_dir() and disk_usage(_MEMORY).free > _ROOM_BYTES:
                patch.setattr(tempfile, "tempdir", str(_MEMORY))
            found = server_mode.programs(_open_directory(stack))
            patch.setattr("mauntic_jobs.embedded.binaries.locate", lambda: found)
            running = stack.enter_context(throwaway(postgres_settings=server_mode.settings()))
        server_mode.hash_password_anew(running)
        if server_mode.IN_CLUSTER:
            running = replace(running, redis_url=stack.enter_context(running_cluster(running)).nodes[0].url)
        yield running


@pytest.fixture(scope="session")
def pgbouncer(servers: Servers) -> Iterator[str]:
    """Yield the address of a real pgbouncer in transaction mode, without a database name."""
    with running_pgbouncer(servers.directory, servers.database_url) as address:
        yield address


@pytest.fixture(scope="session")
def administrator(servers: Servers) -> Iterator[Session]:
    """Yield a session that makes and drops databases."""
    with connect(Settings(database_url=servers.database_url)) as opened:
        yield opened


@pytest.fixture(scope="session")
def template(servers: Servers, administrator: Session) -> str:
    """Make a database with the platform's tables, up to date, and return its name."""
    administrator.execute_alone(b"CREATE DATABASE template_platform")
    settings = Settings(database_url=_named(servers, "template_platform"))
    with connect(settings) as session:
        create_platform(session)
    upgrade(settings, lambda _: None)
    return "template_platform"


@pytest.fixture
def empty_database(servers: Servers, administrator: Session) -> Iterator[Settings]:
    """Yield the settings of a database without anything."""
    yield from _database(servers, administrator, "template1")


@pytest.fixture
def direct_settings(servers: Servers, administrator: Session, template: str) -> Iterator[Settings]:
    """Yield the settings of a fresh database, reached without a pooler."""
    yield from _database(servers, administrator, template)


@pytest.fixture(params=["direct", "pgbouncer"])
def settings(request: pytest.FixtureRequest, direct_settings: Settings) -> Settings:
    """Return the settings of a fresh database, reached directly and again through pgbouncer."""
    if request.param == "direct":
        return direct_settings
    address = request.getfixturevalue("pgbouncer")
    assert direct_settings.database_url
    name = urlsplit(direct_settings.database_url.get_secret_value()).path
    return Settings(**{**direct_settings.model_dump(), "database_url": address + name})


@pytest.fixture
def session(settings: Settings) -> Iterator[Session]:
    with connect(settings) as opened:
        yield opened


def _open_directory(stack: ExitStack) -> Path:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    directory.chmod(0o755)
    return directory


def _database(servers: Servers, administrator: Session, template: str) -> Iterator[Settings]:
    name = f"test_{next(_numbers)}"
    # Writing the copy to the log, as is usual, takes four times as long.
    administrator.execute_alone(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy".encode())
    yield Settings(database_url=_named(servers, name), retry_delay=timedelta(), upkeep=False)
    administrator.execute_alone(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _named(servers: Servers, database: str) -> str:
    return urlsplit(servers.database_url)._replace(path=f"/{database}").geturl()
