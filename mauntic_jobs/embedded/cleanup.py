"""Delete the directories of throwaway servers. Standard library only."""

import contextlib
import os
import shutil
import time
from pathlib import Path

from mauntic_jobs.embedded import file_locks as locks

PREFIX = "mauntic-jobs-"
# Names a directory as one that may be swept; it is written after the directory is locked, and holds the pid.
THROWAWAY = "throwaway"

_ATTEMPTS = 100
_POLL_SECONDS = 0.01


def sweep(base: Path) -> None:
    """Delete the throwaway directories in `base` that are our user's and whose supervisor was killed."""
    for path in base.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            orphan = not path.is_symlink() and path.stat().st_uid == os.geteuid() and (path / THROWAWAY).is_file()
            if orphan and (descriptor := locks.try_acquire(path)) is not None:
                delete(path)
                os.close(descriptor)


def delete(home: Path) -> None:
    """Delete a directory that a process on its last legs may still be writing to."""
    for _ in range(_ATTEMPTS):
        shutil.rmtree(home, ignore_errors=True)
        if not home.exists():
            return
        time.sleep(_POLL_SECONDS)
