"""Child processes that end when the process that started them does. Standard library only."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, cast

_PR_SET_PDEATHSIG = 1
_LOG_TAIL_BYTES = 2_000


def spawn(
    command: Sequence[str],
    *,
    directory: Path,
    account: tuple[int, int] | None,
    log: Path,
    death_signal: signal.Signals = signal.SIGKILL,
    stdin: bytes = b"",
) -> subprocess.Popen[bytes]:
    """Start `command` in its own process group, as `account` if given, with its output in `log`, made anew.

    On Linux the kernel sends it `death_signal` when this process ends, be it by SIGKILL.
    """
    uid, gid = account or (None, None)
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
            user=uid,
            group=gid,
            extra_groups=None if account is None else [],
            preexec_fn=_with_parent_death_signal(death_signal),  # noqa: PLW1509 - this process has one thread
        )
    # A short text fits the pipe; that a child is gone already shows in its status.
    with contextlib.suppress(BrokenPipeError), cast("IO[bytes]", process.stdin) as pipe:
        pipe.write(stdin)
    return process


def log_tail(log: Path) -> str:
    """Read the end of a log, for an error message."""
    with log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_TAIL_BYTES))
        return file.read().decode(errors="replace").strip()


def free_port() -> int:
    """Find a TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _environment() -> dict[str, str]:
    """Ours without what would redirect Postgres, and with messages in the language we look for."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def _with_parent_death_signal(number: signal.Signals) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    # It runs after the change of account, which would clear the setting.
    return partial(_end_with, os.getpid(), number, libc)


def end_with_parent() -> None:
    """On Linux, make the kernel end this process by SIGKILL when the one that started it ends, however that ends."""
    if sys.platform == "linux":
        _end_with(os.getppid(), signal.SIGKILL, ctypes.CDLL(None))


def _end_with(parent: int, number: signal.Signals, libc: ctypes.CDLL) -> None:
    libc.prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)
