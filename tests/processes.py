"""Processes of the program that start in hundredths of a second, because a fork server makes them."""

import atexit
import ctypes
import functools
import inspect
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import fork_server

_TESTS = Path(__file__).parent
_PR_SET_CHILD_SUBREAPER = 36
# Read when the program runs. All other variables may be read by Python or a library when they start.
_LATE = frozenset(
    (
        *("DATABASE_URL", "DATABASE_READ_URL", "REDIS_URL"),
        *("ENCRYPTION_KEY", "PORT", "PYTHONPATH", "FAILPOINT", "CLOCK_HOURS"),
        *("TERM", "COLUMNS", "NO_COLOR", "COMP_WORDS", "COMP_CWORD", "_MAUNTIC_JOBS_COMPLETE"),
    )
)
_LATE_PREFIXES = ("MAUNTIC_", "PYTEST_")
# It would hide what a program forgets to write before it ends.
os.environ.pop("PYTHONUNBUFFERED", None)
_ENVIRONMENT = dict(os.environ)
# What the tests put Process in the place of.
Popen: type[subprocess.Popen[Any]] = subprocess.Popen
_EXECUTE = inspect.signature(subprocess.Popen._execute_child)  # type: ignore[attr-defined]
_ORDINARY = {"preexec_fn": None, "pass_fds": (), "shell": False, "uid": None, "gid": None, "gids": None, "umask": -1}
_ORDINARY |= {"process_group": -1, "executable": None}


class _ForkServer:
    """A fork server, which this process or the one that made this process has started."""

    def __init__(self, connection: socket.socket) -> None:
        self._lock = threading.Lock()
        self._connection = connection

    def start(self, command: fork_server.Command, descriptors: list[int]) -> int:
        """Start a command, as a child of this process; return its process id."""
        libc = ctypes.CDLL(None)
        with self._lock:
            libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
            try:
                request = json.dumps(command).encode()
                socket.send_fds(self._connection, [request], descriptors)
                return int(self._connection.recv(100))
            finally:
                libc.prctl(_PR_SET_CHILD_SUBREAPER, 0)


@functools.cache
def _started_server() -> _ForkServer:
    """Return the fork server of this process, started with the first command."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = Popen(
            [sys.executable, fork_server.__file__, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=_ENVIRONMENT,
            pass_fds=[theirs.fileno()],
        )

    def end() -> None:
        ours.close()
        process.kill()
        process.wait()

    atexit.register(end)
    return _ForkServer(ours)


_find_server: Callable[[], _ForkServer] = _started_server


def use_server(connection: socket.socket) -> None:
    """Let this process, which a fork server made, start others through one that is there already."""
    global _find_server  # noqa: PLW0603 - a process has one
    server = _ForkServer(connection)
    _find_server = lambda: server  # noqa: E731 - what it replaces is a function
    subprocess.Popen = Process  # type: ignore[misc]


class Process(subprocess.Popen[Any]):
    """A Popen that forks where that makes no difference but the time, and starts whatever else it is given."""

    def _execute_child(self, *given: Any) -> None:
        call = _EXECUTE.bind(self, *given).arguments
        environment = dict(os.environ if call["env"] is None else call["env"])
        if not _may_fork(call, environment):
            super()._execute_child(*given)  # type: ignore[misc]
            return
        command = fork_server.Command(
            words=[os.fspath(word) for word in call["args"]][1:],
            environment=environment,
            directory=os.path.abspath(call["cwd"] or "."),  # noqa: PTH100 - a Path would not be text
            new_session=call["start_new_session"],
        )
        ends = [call["p2cread"], call["c2pwrite"], call["errwrite"]]
        self.pid = _find_server().start(command, [number if end == -1 else end for number, end in enumerate(ends)])
        self._child_created = True
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(call[name] for name in pipes))  # type: ignore[attr-defined]


def _may_fork(call: dict[str, Any], environment: dict[str, str]) -> bool:
    """Whether a forked process would be what a started one is."""
    match list(map(str, call["args"])):
        case [sys.executable, "-m", "mauntic_jobs", *_] | [sys.executable, "-P", "-m", "mauntic_jobs", *_]:
            pass
        case [sys.executable, program, *_] if Path(program).suffix == ".py" and _TESTS in Path(program).parents:
            pass
        case _:
            return False
    if any(call.get(name, value) != value for name, value in _ORDINARY.items()):
        return False
    return _early(environment) == _early(_ENVIRONMENT)


def _early(environment: dict[str, str]) -> dict[str, str]:
    """Return the variables that Python or a library may read when they start; an empty one counts as none."""
    return {
        name: value
        for name, value in environment.items()
        if value and name not in _LATE and not name.startswith(_LATE_PREFIXES)
    }
