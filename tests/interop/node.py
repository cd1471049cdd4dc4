"""Node's own BullMQ for tests: installed from the lock file, current and 5.x."""

import json
import os
import shutil
import subprocess
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


def node(script: str, *arguments: str) -> list[Any]:
    """Run a script to its end, and return the lines of JSON that it printed."""
    command = ["node", script, *arguments]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False, timeout=_PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
