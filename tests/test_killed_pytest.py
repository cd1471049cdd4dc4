"""A run of the tests that is killed leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support import wait_until

_ROOT = Path(__file__).parent.parent


def _marked(mark: str) -> list[str]:
    """Return the command lines of the processes that have `mark` in their environment, as their children do."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # it has just ended, or is another user's
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no signal comes with the end of the parent")
def test_killing_pytest_ends_its_workers_and_their_servers() -> None:
    mark = uuid4().hex
    arguments = ["-n", "2", "-p", "no:cacheprovider", "tests/runner/test_processes.py", "-k", "kills and direct"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    tests = subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=_ROOT,
        env={**environment, "KILLED_TEST": mark},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # One for each worker at most, and the program that one has forked.
    wait_until(lambda: sum("fork_server" in line for line in _marked(mark)) > 2, "a test that runs the program")
    assert any("valkey" in line or "supervisor" in line for line in _marked(mark))
    tests.kill()
    tests.wait()
    wait_until(lambda: not _marked(mark), "the end of everything that pytest had started")
