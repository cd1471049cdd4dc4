"""Stores of a test's own, durable, which can be killed and started again on what they have on disk."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from urllib.parse import urlsplit

from mauntic_jobs.embedded import binaries, die_with_parent as children, directories as home, launch
from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.migrations.upgrade import upgrade
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from tests.support import wait_until


class OwnStore:
    """One server, by what starts it on its port."""

    def __init__(self, directory: Path, url: str, start: Callable[[], launch.Server]) -> None:
        self.directory = directory
        self.url = url
        self._start = start
        self._server = start()
        self._await()

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it without any ado: SIGKILL, or SIGQUIT for Postgres's immediate stop."""
        self._server.process.send_signal(number)
        self._server.process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server, which goes on."""
        self._server.process.send_signal(number)

    def start(self) -> None:
        """Start it again, on what is on disk."""
        self._server = self._start()
        self._await()

    @property
    def log(self) -> Path:
        """The file that it logs to."""
        return self._server.log

    def restart(self) -> None:
        """Start it again if it has ended by itself, or end it before."""
        if self._server.process.poll() is None:
            self.end(signal.SIGQUIT)
        self.start()

    def _await(self) -> None:
        server = self._server
        wait_until(lambda: server.process.poll() is not None or server.ready(), server.name)
        assert server.process.poll() is None, children.log_tail(server.log)


@contextmanager
def own_redis() -> Iterator[OwnStore]:
    """Run a Valkey that appends to a file whatever it is told."""
    with _plan() as plan:
        port, directory = children.free_port(), Path(plan.directory)
        password = launch.read_password(directory, plan.account)
        store = OwnStore(
            directory / "valkey",
            f"redis://:{password}@127.0.0.1:{port}/0",
            lambda: launch.start_valkey(plan, directory, port, password),
        )
        try:
            yield store
        finally:
            store.end()


@contextmanager
def own_postgres() -> Iterator[OwnStore]:
    """Run a Postgres with the platform's tables, which loses nothing that it has committed."""
    with _plan() as plan:
        port, directory = children.free_port(), Path(plan.directory)
        password = launch.read_password(directory, plan.account)
        launch.create_database(plan, directory, lambda name, command, **more: _run(plan, name, command, **more))
        store = OwnStore(
            directory / "postgres",
            f"postgresql://{launch.USER}:{password}@127.0.0.1:{port}/{launch.DATABASE}",
            lambda: launch.start_postgres(plan, directory, port),
        )
        try:
            settings = Settings(database_url=store.url)
            with connect(settings) as session:
                create_platform(session)
            upgrade(settings, lambda _: None)
            yield store
        finally:
            store.end(signal.SIGQUIT)


@contextmanager
def own_replica(primary: OwnStore) -> Iterator[OwnStore]:
    """Run a hot standby that follows a Postgres of `own_postgres`."""
    with _plan() as plan:
        directory, port = Path(plan.directory), children.free_port()
        data = directory / "postgres"
        primary.end(signal.SIGINT)
        shutil.copytree(primary.directory, data)
        (data / "standby.signal").touch()
        with (data / "postgresql.auto.conf").open("a") as file:
            file.write(f"primary_conninfo = '{primary.url}'\n")
        if plan.account:
            for each in [data, *data.rglob("*")]:
                os.chown(each, *plan.account)
        primary.start()
        url = urlsplit(primary.url)
        netloc = f"{url.username}:{url.password}@127.0.0.1:{port}"
        replica = OwnStore(
            data, url._replace(netloc=netloc).geturl(), lambda: launch.start_postgres(plan, directory, port)
        )
        try:
            yield replica
        finally:
            replica.end(signal.SIGQUIT)


@contextmanager
def _plan() -> Iterator[launch.ServerPlan]:
    programs, account = binaries.locate(), home.server_account()
    directory = Path(mkdtemp(prefix="mauntic-jobs-own-"))
    directory.chmod(0o711)
    yield launch.ServerPlan(
        directory=str(directory),
        throwaway=False,
        initdb=str(programs.initdb),
        postgres=str(programs.postgres),
        valkey_server=str(programs.valkey_server),
        account=account,
        postgres_settings={},
    )
    shutil.rmtree(directory)


def _run(plan: launch.ServerPlan, name: str, command: list[str], *, stdin: bytes = b"") -> None:
    directory = Path(plan.directory)
    process = children.spawn(command, directory=directory, account=plan.account, log=directory / "log", stdin=stdin)
    assert process.wait() == 0, f"{name}: {children.log_tail(directory / 'log')}"
