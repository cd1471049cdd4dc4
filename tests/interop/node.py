"""Node's own BullMQ for tests: installed from the lock file, current and 5.x."""

import atexit
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from mauntic_jobs.embedded import file_locks as locks

HERE = Path(__file__).parent
PACKAGES = ["bullmq", "bullmq-5"]
_PATIENCE_SECONDS = 120


def require(*programs: str) -> None:
    """Without one of these programs the test is skipped, in CI it fails."""
    missing = " and ".join(name for name in programs if shutil.which(name) is None)
    if missing and os.environ.get("CI"):
        pytest.fail(f"required in CI: {missing}")
    if missing:
        pytest.skip(f"not installed: {missing}")


def install() -> None:
    """Install the packages; one worker does it, others wait. Without Node the test is skipped, in CI it fails."""
    require("node", "npm")
    installed, lock = HERE / "node_modules" / ".package-lock.json", HERE / "package-lock.json"
    with locks.holding(lock):
        if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
            # Not `npm ci`: it insists on optional packages of platforms for which the lock file has none.
            command = ["npm", "install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund"]
            subprocess.run(command, cwd=HERE, check=True, capture_output=True)
            installed.touch()


class _Process:
    """A Node that runs one script after another. To start it and to load BullMQ takes half a second of a processor."""

    def __init__(self) -> None:
        command = ["node", "serve.mjs"]
        self._process = subprocess.Popen(command, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        atexit.register(self.end)

    def run(self, script: str, arguments: tuple[str, ...]) -> dict[str, Any]:
        """Return the status of a script, and the lines that it printed."""
        assert self._process.stdin
        assert self._process.stdout
        patience = threading.Timer(_PATIENCE_SECONDS, self._process.kill)
        patience.start()
        try:
            self._process.stdin.write(json.dumps([dict(os.environ), script, arguments]) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        finally:
            patience.cancel()
        assert answer, f"{script} ended Node, or took more than {_PATIENCE_SECONDS} s"
        return dict(json.loads(answer))

    def end(self) -> None:
        """End it, with all connections that scripts have left open."""
        atexit.unregister(self.end)
        with self._process:
            self._process.kill()


_running: list[_Process] = []


def node(script: str, *arguments: str) -> list[Any]:
    """Run a script to its end, and return the lines of JSON that it printed.

    Scripts share a process of Node. One that is to have its own, because it is killed, say, is started with Popen.
    """
    process = _running.pop() if _running else _Process()
    try:
        answer = process.run(script, arguments)
        assert answer["status"] == 0, "\n".join(answer["errors"])
    except BaseException:
        process.end()
        raise
    _running.append(process)
    return [json.loads(line) for line in answer["lines"]]
