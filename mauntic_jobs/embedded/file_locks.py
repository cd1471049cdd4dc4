"""Advisory file locks that end with their holder, however it ends."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_SECONDS = 0.01


def acquire(path: Path, *, shared: bool = False) -> int:
    """Lock a file (made when missing) or a directory, waiting for it; closing the descriptor returned unlocks it."""
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def try_acquire(path: Path, *, shared: bool = False, patience: float = 0.0) -> int | None:
    """As `acquire`, but None when others still hold the lock after `patience` seconds."""
    deadline = time.monotonic() + patience
    descriptor = _open(path)
    while not _try(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
        if time.monotonic() >= deadline:
            os.close(descriptor)
            return None
        time.sleep(POLL_SECONDS)
    return descriptor


def is_held(path: Path) -> bool:
    """Whether a process has the exclusive lock; False when there is no such path."""
    if not path.exists():
        return False
    descriptor = try_acquire(path, shared=True)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def upgrade(descriptor: int) -> bool:
    """Turn a shared lock into the exclusive one; False, with the lock given up, when others share it."""
    return _try(descriptor, fcntl.LOCK_EX)


@contextmanager
def holding(path: Path, *, shared: bool = False) -> Iterator[int]:
    """Hold the lock for the block; yields its descriptor."""
    descriptor = acquire(path, shared=shared)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _try(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open(path: Path) -> int:
    if path.is_dir():
        return os.open(path, os.O_RDONLY)
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
