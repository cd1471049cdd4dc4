"""A pgbouncer in transaction mode."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mauntic_jobs.embedded import die_with_parent as children, directories as home
from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from tests.support import wait_until

# For tests of hundreds of random runs: these differ by what is run, in which order, and not by how the database is
# reached. The examples beside them reach it both ways. A pooler keeps nothing of a session, and takes half the time.
RANDOM_RUNS = pytest.mark.parametrize(
    "settings", ["pgbouncer" if shutil.which("pgbouncer") else "direct"], indirect=True
)


class Pooler:
    """A pgbouncer, which can be ended and started again on its port."""

    def __init__(self, command: list[str], directory: Path, address: str) -> None:
        self.address = address
        self._command = command
        self._directory = directory
        self._process = self._started()

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()

    def start(self) -> None:
        """Start it again."""
        self._process = self._started()

    def pause(self) -> None:
        """Let it take statements and hand on none, as its command PAUSE does."""
        self._process.send_signal(signal.SIGUSR1)

    def resume(self) -> None:
        """Let it hand them on again."""
        self._process.send_signal(signal.SIGUSR2)

    def _started(self) -> "subprocess.Popen[bytes]":
        log, account = self._directory / "log", home.server_account()
        process = children.spawn(
            self._command, directory=self._directory, account=account, log=log, death_signal=signal.SIGKILL
        )
        settings = Settings(database_url=f"{self.address}/postgres")
        wait_until(lambda: process.poll() is not None or _answers(settings), "pgbouncer")
        assert process.poll() is None, children.log_tail(log)
        return process


@contextmanager
def running_pgbouncer(
    parent: Path, database_url: str, *, name: str = "pgbouncer", pool_size: int = 20
) -> Iterator[str]:
    """Run one in front of a Postgres, with its files in `parent`; yield its address, without a database name."""
    with own_pgbouncer(parent, database_url, name=name, pool_size=pool_size) as pooler:
        yield pooler.address


@contextmanager
def own_pgbouncer(
    parent: Path, database_url: str, *, name: str = "pgbouncer", pool_size: int = 20, max_clients: int = 500
) -> Iterator[Pooler]:
    """Run one in front of a Postgres, with its files in `parent`."""
    program = shutil.which("pgbouncer")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("pgbouncer is required in CI: apt-get install pgbouncer")
        pytest.skip("pgbouncer is not installed: apt-get install pgbouncer")
    directory = parent / name
    directory.mkdir()
    account = home.server_account()
    if account:
        os.chown(directory, *account)
    port = children.free_port()
    postgres = urlsplit(database_url)
    configuration = directory / "pgbouncer.ini"
    configuration.write_text(
        f"""
[databases]
* = host=127.0.0.1 port={postgres.port} user={postgres.username} password={postgres.password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
max_client_conn = {max_clients}
default_pool_size = {pool_size}
server_login_retry = 1
"""
    )
    if account:
        os.chown(configuration, *account)
    pooler = Pooler([program, str(configuration)], directory, f"postgresql://127.0.0.1:{port}")
    try:
        yield pooler
    finally:
        pooler.end()


def _answers(settings: Settings) -> bool:
    try:
        with connect(settings):
            return True
    except MaunticJobsError:
        return False
