"""Versions of this program beside each other: on one queue, and before the schema of another."""

import subprocess
from pathlib import Path

import pytest

from mauntic_jobs.errors import ExitCode
from tests.delivery.crash import age, backlog, check, deliver_all, ended, start
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.support import wait_until

_ROOT = Path(__file__).parents[3]
_MESSAGES = 200


@pytest.fixture
def ready(world: World, sink: Sink) -> World:
    world.provider(sink.host, sink.port)
    return world


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        (
            "INSERT INTO mauntic_jobs.migrations (version, name, checksum) VALUES (9999, 'later', 'x')",
            ExitCode.REFUSED,
            "migration 9999 later, which this version of mauntic-jobs does not know",
        ),
        (
            "DELETE FROM mauntic_jobs.migrations WHERE version = (SELECT max(version) FROM mauntic_jobs.migrations)",
            ExitCode.CONFIGURATION,
            "Run `mauntic-jobs db upgrade` first.",
        ),
    ],
)
def test_a_process_refuses_a_schema_that_is_not_its_own(
    ready: World, sink: Sink, change: str, status: ExitCode, words: str
) -> None:
    backlog(ready, 3)
    ready.write(change)
    found, errors = ended(start(ready, "--drain"))
    assert (found, words in errors) == (status, True), errors
    assert (len(ready.jobs_in("wait")), sink.messages(), ready.ledger()) == (3, [], [])


@pytest.mark.parametrize("function", ["claim_deliveries(json, interval)", "record_deliveries(json, interval, boolean)"])
def test_a_running_process_whose_functions_are_replaced_fails_no_message(
    ready: World, sink: Sink, function: str
) -> None:
    sink.behaviour.slow_seconds = 0.05
    backlog(ready, 40, recipient="slow+{}@example.com")
    process = start(ready)
    wait_until(lambda: len(sink.messages()) > 5, "messages")
    name, _, signature = function.partition("(")
    ready.write(f"ALTER FUNCTION mauntic_jobs.{function} RENAME TO {name}_of_old")
    # Those in hand wait, and no further one is sent.
    wait_until(lambda: _is_held(ready), "the messages to be held")
    ready.write(f"ALTER FUNCTION mauntic_jobs.{name}_of_old({signature} RENAME TO {name}")
    wait_until(lambda: len(ready.jobs_in("completed")) == 40, "all")
    process.terminate()
    found, errors = ended(process)
    assert found == 0, errors
    assert "The schema is another version's" in errors
    assert (ready.jobs_in("failed"), len(sink.messages())) == ([], 40)


def _is_held(world: World) -> bool:
    """Return whether nothing was settled for a while although messages wait."""
    before = len(world.jobs_in("completed"))
    try:
        wait_until(lambda: len(world.jobs_in("completed")) > before, "another", 2)
    except AssertionError:
        return True
    return False


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """Unpack the oldest version with the present schema; in a clone without history it is the present one."""
    git = ("git", "-c", f"safe.directory={_ROOT}", "-C", str(_ROOT))
    log = [*git, "log", "-1", "--format=%H", "--", "mauntic_jobs/migrations"]
    commit = subprocess.run(log, check=True, capture_output=True, text=True).stdout.strip()
    tree = tmp_path / "older"
    tree.mkdir()
    archive = subprocess.run([*git, "archive", commit, "mauntic_jobs", "tests"], check=True, capture_output=True)
    subprocess.run(["tar", "-x", "-C", str(tree)], input=archive.stdout, check=True)
    return tree


def test_two_versions_on_one_queue_lose_and_double_nothing(ready: World, sink: Sink, older: Path) -> None:
    sink.behaviour.slow_seconds = 0.02
    backlog(ready, _MESSAGES, recipient="slow+{}@example.com")
    new = start(ready)
    old = _start_older(ready, older)
    wait_until(lambda: len(sink.messages()) > _MESSAGES // 4, "messages")
    assert (new.poll(), old.poll()) == (None, None)
    old.terminate()
    assert ended(old)[0] == 0
    new.terminate()
    assert ended(new)[0] == 0
    deliver_all(ready)
    check(ready, sink, _MESSAGES)
    assert len(sink.messages()) == _MESSAGES


def test_a_killed_older_version_loses_nothing_and_what_may_be_doubled_is_named(
    ready: World, sink: Sink, older: Path
) -> None:
    sink.behaviour.slow_seconds = 0.02
    backlog(ready, _MESSAGES, recipient="slow+{}@example.com")
    new, old = start(ready), _start_older(ready, older)
    wait_until(lambda: len(sink.messages()) > _MESSAGES // 4, "messages")
    old.kill()
    new.kill()
    ended(old)
    ended(new)
    age(ready)
    deliver_all(ready)
    # An older version does not note what it has in hand, so each of those is named too.
    check(ready, sink, _MESSAGES, kills=4)


def _start_older(world: World, tree: Path) -> "subprocess.Popen[str]":
    """Start it, and wait until it takes part."""
    process = start(world, PYTHONPATH=str(tree), program=tree / "tests/delivery/failing.py")
    wait_until(lambda: _workers(world) >= 2 or process.poll() is not None, "the older version")
    return process


def _workers(world: World) -> int:
    clients = world.ask("CLIENT", "LIST").decode()
    return sum(f"name={world.settings.queue_prefix}" in line for line in clients.splitlines())
