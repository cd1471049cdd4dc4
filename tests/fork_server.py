"""Fork server: a process that has imported the program, and forks itself instead of starting Python for each command.

A command is a process of its own all the same, with its own descriptors, environment and directory. Its parent is the
process that asked for it, which has made itself the subreaper: the kernel hands it the orphans of its descendants.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import socket
import sys
import threading
import time
from typing import NamedTuple, NoReturn

_MAX_REQUEST_BYTES = 1024 * 1024
_FIRST_OTHER_DESCRIPTOR = 3
# Commands that start others: they get a fork server of their own.
_STARTERS = frozenset(("backfill", "schedule", "work"))
# What the program imports where it is used. Each process that did so itself would take twice as long.
_LATE_IMPORTS = (
    *("cron_descriptor", "croniter", "encodings.idna", "redis", "redis.asyncio", "rich._emoji_codes"),
    *("rich.markdown", "rich.syntax", "rich.table", "rich.traceback", "stringprep", "structlog", "typer._adapters"),
    *("typer.rich_utils", "uvloop"),
)


class Command(NamedTuple):
    """A command to run, as passed in JSON; `words` begin with what follows the interpreter."""

    words: list[str]
    environment: dict[str, str]
    directory: str
    new_session: bool


def serve(connection: socket.socket) -> Command:
    """Fork for each request; return in the forked process only, with what it runs."""
    while True:
        try:
            content, descriptors, _, _ = socket.recv_fds(connection, _MAX_REQUEST_BYTES, _FIRST_OTHER_DESCRIPTOR)
        except KeyboardInterrupt:
            continue  # Ctrl-C goes to everything that runs in a terminal; the tests end this process
        if not content:
            os._exit(0)
        numbers, sender = os.pipe()
        middle = os.fork()
        if middle == 0:
            middle = os.getpid()
            pid = os.fork()
            if pid == 0:
                while os.getppid() == middle:
                    time.sleep(0.0002)
                _take(descriptors)
                return Command(*json.loads(content))
            # A parent that ends makes an orphan of the process.
            os.write(sender, str(pid).encode())
            os._exit(0)
        os.waitpid(middle, 0)
        connection.sendall(os.read(numbers, 100))
        for descriptor in (numbers, sender, *descriptors):
            os.close(descriptor)


def run_what_is_asked(connection: socket.socket) -> NoReturn:
    """Serve; in each forked process run its command, which may ask a server of its own for others."""
    command = serve(connection)
    connection.detach()  # it is closed already
    if _STARTERS.intersection(command.words):
        processes = sys.modules["tests.processes"]
        connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            _leave(connection)
            run_what_is_asked(theirs)
        theirs.close()
        processes.use_server(connection)
    run(command)


def become(command: Command) -> None:
    """Run a command in this process as the interpreter would."""
    if command.new_session:
        os.setsid()
    os.chdir(command.directory)
    os.environ.clear()
    os.environ.update(command.environment)
    paths = command.environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [path for path in paths if path]
    match command.words:
        case ["-P", "-m", module, *arguments]:
            sys.argv = [module, *arguments]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case ["-m", module, *arguments]:
            sys.path.insert(0, command.directory)
            sys.argv = [module, *arguments]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case [program, *arguments]:
            sys.path.insert(0, os.path.dirname(program))  # noqa: PTH120 - the interpreter has text there
            sys.argv = [program, *arguments]
            runpy.run_path(program, run_name="__main__")


def run(command: Command) -> NoReturn:
    """Run a command, and end as the interpreter would."""
    status = 0
    try:
        become(command)
    except SystemExit as stopped:
        if not isinstance(stopped.code, int | None):
            raise
        status = stopped.code or 0
    end(status)


def end(status: int) -> NoReturn:
    """Do what the interpreter does at its end, but for freeing what the fork server has imported.

    That takes more than twice as long as most commands: each page of it would be copied first.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream and not stream.closed:
                stream.flush()
    except OSError:
        sys.exit(status)  # the interpreter tries again, and says that it cannot
    gc.collect()
    os._exit(status & 0xFF)


def _leave(connection: socket.socket) -> None:
    """Leave the terminal, the signals and the pipes of the process that this one serves to that process alone."""
    connection.close()
    os.setsid()
    with open(os.devnull, "rb+", buffering=0) as nothing:  # noqa: PTH123 - for the three alike
        for number in range(_FIRST_OTHER_DESCRIPTOR):
            os.dup2(nothing.fileno(), number)


def _take(descriptors: list[int]) -> None:
    """Make these the standard input, output and error, and close all others."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(_FIRST_OTHER_DESCRIPTOR, os.sysconf("SC_OPEN_MAX"))
    # The objects of before remember what kind of file was there.
    for number, (name, mode, buffering) in enumerate((("stdin", "r", -1), ("stdout", "w", -1), ("stderr", "w", 1))):
        old = getattr(sys, name)
        new = open(number, mode, buffering, old.encoding, old.errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)


def _import_program() -> None:
    package = importlib.import_module("mauntic_jobs")
    for module in pkgutil.walk_packages(package.__path__, "mauntic_jobs."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in _LATE_IMPORTS:
        importlib.import_module(name)
    # What is there now is never garbage, and looking at it would copy its pages into each process.
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    # The directory of this file holds the tests.
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - text
    importlib.import_module("tests.processes")
    del sys.path[0]
    _import_program()
    run_what_is_asked(socket.socket(fileno=int(sys.argv[1])))
