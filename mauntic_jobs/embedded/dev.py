"""Postgres and Valkey for development: their data is kept, and any process of the same user finds them."""

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mauntic_jobs.embedded import directories as home, file_locks as locks
from mauntic_jobs.embedded.servers import Servers, parse, read_servers, spawn
from mauntic_jobs.embedded.supervisor import KEEP, PID, STATE, USERS
from mauntic_jobs.errors import UnavailableError

_STOP_SECONDS = 40.0
_POLL_SECONDS = 0.01
# Lock files stay, since others may be waiting on them; so do copies of programs that other servers may be running.
_NOT_DATA = {home.LOCK, USERS, "binaries"}


def status() -> Servers | None:
    """Return the running servers, if any; raises ConfigurationError when the directory is another user's."""
    path = home.kept_path()
    if not path.exists():
        return None
    home.require_ours(path)
    return _running(path)


def up() -> Servers:
    """Start the servers unless they run already; they stay until `down`.

    Raises UnavailableError when one does not start, and ConfigurationError when it could not.
    """
    path = home.kept_directory()
    with locks.holding(path / USERS, shared=True):
        servers = _running_or_start(path)
        (path / KEEP).touch(mode=0o600)
    return servers


def down(*, delete: bool = False) -> bool:
    """Stop the servers, also while they are used, and with `delete` forget their data; False when none were running."""
    path = home.kept_path()
    if not path.exists():
        return False
    path = home.kept_directory()
    with locks.holding(path / home.LOCK):
        stopped = _stop(path)
        if delete:
            _delete_data(path)
    return stopped


@contextmanager
def running_or_started() -> Iterator[Servers]:
    """Yield the running servers, or else servers on the kept data that stop once their last user is done.

    Raises as `up` does.
    """
    path = home.kept_directory()
    # The process that stops the servers for want of users holds this lock alone until they have ended.
    with locks.holding(path / USERS, shared=True) as users:
        servers = _running_or_start(path)
        try:
            yield servers
        finally:
            if locks.upgrade(users) and not (path / KEEP).exists():
                with locks.holding(path / home.LOCK):
                    _stop(path)


def _running_or_start(path: Path) -> Servers:
    with locks.holding(path / home.LOCK):
        servers = _running(path)
        if servers is None:
            # A supervisor whose state is unreadable, or which lost the process that started it.
            _stop(path)
            servers = _start(path)
    return servers


def _running(path: Path) -> Servers | None:
    """Read the state file, if a supervisor is there to vouch for it: it holds a lock while it lives."""
    if not locks.is_held(path):
        return None
    try:
        return parse(json.loads((path / STATE).read_text()))
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _start(path: Path) -> Servers:
    for name in (STATE, PID, KEEP):
        (path / name).unlink(missing_ok=True)
    log = os.open(path / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(log, "w") as stderr, spawn(path, throwaway=False, stderr=stderr) as process:
        return read_servers(process)


def _stop(path: Path) -> bool:
    """End the supervisor, and with it the servers; False when there was none."""
    if not locks.is_held(path):
        return False
    (path / KEEP).unlink(missing_ok=True)
    deadline = time.monotonic() + _STOP_SECONDS
    while locks.is_held(path):
        # Its file is missing for a moment after it starts; while the lock is held, the number is no one else's.
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((path / PID).read_text()), signal.SIGTERM)
        if time.monotonic() > deadline:
            raise UnavailableError(f"The embedded servers did not stop: see the logs in {path}.")
        time.sleep(_POLL_SECONDS)
    return True


def _delete_data(path: Path) -> None:
    for entry in path.iterdir():
        if entry.name in _NOT_DATA:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
