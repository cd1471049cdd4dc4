"""A pgbouncer in transaction mode."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mauntic_jobs.config import Settings
from mauntic_jobs.embedded import children, home
from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.stores.postgres import connect
from tests.support import wait_until


@contextmanager
def running_pgbouncer(
    parent: Path, database_url: str, *, name: str = "pgbouncer", pool_size: int = 20
) -> Iterator[str]:
    """Run one in front of a Postgres, with its files in `parent`; yield its address, without a database name."""
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
max_client_conn = 500
default_pool_size = {pool_size}
server_login_retry = 1
"""
    )
    if account:
        os.chown(configuration, *account)
    log = directory / "log"
    process = children.spawn(
        [program, str(configuration)], directory=directory, account=account, log=log, death_signal=signal.SIGKILL
    )
    address = f"postgresql://127.0.0.1:{port}"
    settings = Settings(database_url=f"{address}/postgres")
    wait_until(lambda: process.poll() is not None or _answers(settings), "pgbouncer")
    assert process.poll() is None, children.log_tail(log)
    yield address
    process.kill()
    process.wait()


def _answers(settings: Settings) -> bool:
    try:
        with connect(settings):
            return True
    except MaunticJobsError:
        return False
