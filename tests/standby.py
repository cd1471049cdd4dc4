"""A streaming replica of the servers of the tests."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from mauntic_jobs.embedded import die_with_parent as children, directories as home
from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from tests import server_mode
from tests.support import wait_until

_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    # A query that is in the way of the replay is cancelled at once.
    "max_standby_streaming_delay": "0",
    "hot_standby_feedback": "off",
}


class Standby:
    """A hot standby; `address` has no database name."""

    def __init__(self, address: str) -> None:
        self.address = address

    def beside(self, settings: Settings) -> Settings:
        """Return settings that name the replica of their database, once it has that database and their role."""
        assert settings.database_url
        url, here = urlsplit(settings.database_url.get_secret_value()), urlsplit(self.address)
        # A pooler knows the passwords itself.
        account = f"{url.username}:{url.password}" if url.password else f"{here.username}:{here.password}"
        there = url._replace(netloc=f"{account}@127.0.0.1:{here.port}").geturl()
        wait_until(lambda: _answers(there), "the database on the replica")
        return settings.model_copy(update={"database_read_url": SecretStr(there)})

    def pause(self) -> None:
        """Let it replay nothing from now on."""
        self._execute(b"SELECT pg_wal_replay_pause()")
        wait_until(lambda: self._asked(b"SELECT pg_get_wal_replay_pause_state() AS state") == "paused", "the pause")

    def resume(self) -> None:
        """Let it replay again."""
        self._execute(b"SELECT pg_wal_replay_resume()")

    def promote(self) -> None:
        """Make it a primary, which it stays."""
        self._execute(b"SELECT pg_promote()")

    def _execute(self, query: bytes) -> None:
        with connect(Settings(database_url=self.address + "/postgres")) as session:
            session.rows(query)

    def _asked(self, query: bytes) -> str:
        with connect(Settings(database_url=self.address + "/postgres")) as session:
            return str(session.row(query)["state"])


@contextmanager
def running_standby(servers: Servers) -> Iterator[Standby]:
    """Copy the servers' Postgres to a directory beside it, and run a standby from there."""
    # One for each: pytest may set a fixture of a module up again, when it has run tests of others between.
    directory = Path(tempfile.mkdtemp(prefix="standby-", dir=servers.directory))
    directory.chmod(0o755)
    programs, account, data = server_mode.programs(directory), home.server_account(), directory / "standby"
    url, port, log = urlsplit(servers.database_url), children.free_port(), directory / "standby.log"
    data.mkdir(mode=0o700)
    if account:
        os.chown(data, *account)
    source = f"host=127.0.0.1 port={url.port} user={url.username} password={url.password}"
    backup = [str(programs.postgres.with_name("pg_basebackup")), "-d", source, "-D", str(data)]
    backup += ["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--wal-method=stream"]
    copied = children.spawn(backup, directory=data, account=account, log=log)
    assert copied.wait(60) == 0, children.log_tail(log)
    command = [str(programs.postgres), "-D", str(data), f"--port={port}"]
    command += [f"--{name}={value}" for name, value in _OPTIONS.items()]
    process = children.spawn(command, directory=data, account=account, log=log)
    standby = Standby(f"postgresql://{url.username}:{url.password}@127.0.0.1:{port}")
    wait_until(lambda: process.poll() is not None or _answers(standby.address + "/postgres"), "the standby")
    assert process.poll() is None, children.log_tail(log)
    try:
        yield standby
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with connect(Settings(database_url=url)):
            return True
    except MaunticJobsError:
        return False
