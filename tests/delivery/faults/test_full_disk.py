"""Postgres on a disk that fills up while messages are under way: none is lost or doubled, and no attempt is spent."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import MaunticJobsError
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from tests.delivery.crash import age, backlog, ended, start
from tests.delivery.faults.test_store_outages import stopped
from tests.delivery.own_stores import OwnStore, own_postgres
from tests.delivery.sink import Sink
from tests.delivery.world import World, new_world
from tests.support import wait_until

MESSAGES = 120
_SIZE = "220m"


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a small file system, on which temporary directories are made."""
    # Not below pytest's directory, which only its owner may enter: Postgres has an account of its own.
    place = Path(tempfile.mkdtemp(prefix="mauntic-jobs-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE},mode=755", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        place.rmdir()
        pytest.skip(f"no file system can be mounted: {done.stderr.strip()}")
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
        place.rmdir()


@pytest.fixture
def postgres(disk: Path) -> Iterator[OwnStore]:
    with own_postgres() as store:
        assert store.directory.is_relative_to(disk)
        yield store


def fill(disk: Path) -> Path:
    """Take all the space that is left."""
    filler = disk / "filler"
    with filler.open("wb") as file, suppress(OSError):
        while True:
            os.write(file.fileno(), bytes(4096))
    return filler


def test_tables_that_cannot_grow_hold_up_deliveries_and_no_more(
    disk: Path, postgres: OwnStore, servers: Servers, sink: Sink
) -> None:
    with new_world(Settings(database_url=postgres.url), servers.redis_url) as world:
        world.provider(sink.host, sink.port)
        backlog(world, MESSAGES)
        filler = fill(disk)
        process = start(world)
        assert process.stderr
        assert any("No space left on device" in line for line in process.stderr)
        filler.unlink()
        wait_until(lambda: len(world.jobs_in("completed")) == MESSAGES, "all")
        stopped(process)
        check(world, sink)


def test_a_log_that_cannot_grow_ends_the_server_and_loses_nothing(
    disk: Path, postgres: OwnStore, servers: Servers, sink: Sink
) -> None:
    settings = Settings(database_url=postgres.url)
    with new_world(settings, servers.redis_url) as world:
        world.provider(sink.host, sink.port)
        sink.behaviour.slow_seconds = 0.05
        backlog(world, MESSAGES, recipient="slow+{}@example.com")
        process = start(world)
        wait_until(lambda: len(sink.messages()) > 5, "messages")
        filler = fill(disk)
        with suppress(MaunticJobsError), connect(settings) as session:
            for _ in range(100):
                session.execute(b"SELECT pg_logical_emit_message(true, 'test', repeat('x', 1000000))")
        filler.unlink()
        # Its log is on the full disk too: that it panicked is seen by what it does next.
        wait_until(lambda: "redo starts" in postgres.log.read_text(), "the end of the server")
        assert len(world.jobs_in("completed")) < MESSAGES
        postgres.restart()
        wait_until(lambda: len(world.jobs_in("completed")) == MESSAGES, "all")
        stopped(process)
        with connect(settings) as session:
            world.session = session
            check(world, sink)


def check(world: World, sink: Sink) -> None:
    age(world)
    status, errors = ended(start(world, "--drain"))
    assert status == 0, errors
    assert set(world.states().values()) == {"sent"}
    assert {row["possible_duplicate"] for row in world.ledger()} == {False}
    assert len(sink.messages()) == MESSAGES
    assert {world.job(name)["atm"] for name in world.jobs_in("completed")} <= {"1"}
