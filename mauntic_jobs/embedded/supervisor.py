"""A process of its own that starts Postgres and Valkey, says so in one line of JSON, and stops them when told to.

Throwaway servers end with the standard input, that is with the process that started them, and leave no file. Kept
servers end when no process holds the file `users` any more, unless a file `keep` asks them to stay.

Runs without site-packages, so that it starts in a few hundredths of a second: only the standard library, and a
package whose `__init__` imports nothing.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from mauntic_jobs.embedded import die_with_parent as children, file_locks as locks, launch
from mauntic_jobs.embedded.cleanup import PREFIX, THROWAWAY, delete, sweep
from mauntic_jobs.embedded.launch import Server, ServerPlan, StartError
from mauntic_jobs.embedded.stop_conditions import Stop, Watch

PID, STATE, USERS, KEEP = "pid", "state.json", "users", "keep"

_PORT_ATTEMPTS = 5
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.01
# How soon it shows that the last user was killed; one that ends in order stops the servers itself.
_UNUSED_SECONDS = 1.0


class Supervisor:
    """The servers of one directory, from their start to their end."""

    def __init__(self, plan: ServerPlan, home: Path, watch: Watch) -> None:
        self._plan, self._home, self._watch = plan, home, watch
        self._servers: list[Server] = []

    def start(self) -> dict[str, Any]:
        """Start both servers; returns what their user needs to know."""
        password = launch.read_password(self._home, self._plan.account)
        valkey = self._start(lambda port: launch.start_valkey(self._plan, self._home, port, password))
        launch.create_database(self._plan, self._home, self._run)
        postgres = self._start(lambda port: launch.start_postgres(self._plan, self._home, port))
        credentials = f"{launch.USER}:{password}"
        return {
            "database_url": f"postgresql://{credentials}@127.0.0.1:{postgres.port}/{launch.DATABASE}",
            "redis_url": f"redis://:{password}@127.0.0.1:{valkey.port}/0",
            "directory": str(self._home),
            "pid": os.getpid(),
            "postgres_pid": postgres.process.pid,
            "valkey_pid": valkey.process.pid,
        }

    def wait(self) -> NoReturn:
        """Wait until Stop is raised: by the watch, by a server's end, or because kept servers have no user left."""
        bound_to_users = not self._plan.throwaway
        while True:
            self._watch.pause(_UNUSED_SECONDS if bound_to_users else None)
            for server in self._servers:
                if server.process.poll() is not None:
                    raise Stop(_obituary(server))
            if bound_to_users and (descriptor := locks.try_acquire(self._home / USERS)) is not None:
                if not (self._home / KEEP).exists():
                    # Kept locked until this process ends, so that a new user waits for that.
                    raise Stop
                os.close(descriptor)
                bound_to_users = False

    def stop(self) -> None:
        """Ask the servers to end, with less and less patience; signals no longer matter."""
        for step in range(3):
            running = [server for server in self._servers if server.process.poll() is None]
            for server in running:
                server.process.send_signal(server.stop_signals[step])
            deadline = time.monotonic() + _STOP_SECONDS
            for server in running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.process.wait(max(0.0, deadline - time.monotonic()))

    def _start(self, start: Callable[[int], Server]) -> Server:
        """Start a server on a free port, and on another when something else took that meanwhile."""
        for _ in range(_PORT_ATTEMPTS):
            server = start(children.free_port())
            self._servers.append(server)
            if self._becomes_ready(server):
                return server
            self._servers.remove(server)
            if "Address already in use" not in children.log_tail(server.log):
                break
        raise StartError(_obituary(server))

    def _becomes_ready(self, server: Server) -> bool:
        deadline = time.monotonic() + _START_SECONDS
        while server.process.poll() is None:
            if server.ready():
                return True
            if time.monotonic() > deadline:
                tail = children.log_tail(server.log)
                raise StartError(f"{server.name} is not ready after {_START_SECONDS:.0f} s:\n{tail}")
            self._watch.pause(_POLL_SECONDS)
        return False

    def _run(self, name: str, command: list[str], *, stdin: bytes = b"") -> None:
        log = self._home / "initdb.log"
        process = children.spawn(command, directory=self._home, account=self._plan.account, log=log, stdin=stdin)
        try:
            while process.poll() is None:
                self._watch.pause()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.returncode != 0:
            raise StartError(f"{name} failed (status {process.returncode}):\n{children.log_tail(log)}")


def main() -> None:
    """Do what the plan in the last argument says, until it is time to stop."""
    plan = ServerPlan(**json.loads(sys.argv[-1]))
    if not plan.throwaway and os.fork():
        # Kept servers outlive the process that starts them, which then has no child to collect.
        os._exit(0)
    watch = Watch(stdin=plan.throwaway)
    try:
        home = _throwaway_directory(plan) if plan.throwaway else _kept_directory(plan)
    except (StartError, OSError) as error:
        _report({"error": str(error)})
        sys.exit(1)
    sys.exit(_supervise(plan, home, Supervisor(plan, home, watch)))


def _supervise(plan: ServerPlan, home: Path, supervisor: Supervisor) -> int:
    try:
        state = supervisor.start()
        if not plan.throwaway:
            _write_state(home, state)
        _report(state)
        if plan.throwaway:
            sweep(Path(plan.directory))
        supervisor.wait()
    except (StartError, OSError) as error:
        _report({"error": str(error)})
        return 1
    except Stop as stop:
        sys.stderr.writelines(f"mauntic-jobs: {text}\n" for text in stop.args)
        return 0
    finally:
        (home / STATE).unlink(missing_ok=True)
        supervisor.stop()
        (home / PID).unlink(missing_ok=True)
        if plan.throwaway:
            delete(home)


# The lock on the directory itself also keeps systemd-tmpfiles from cleaning it up under running servers.
def _throwaway_directory(plan: ServerPlan) -> Path:
    home = Path(plan.directory, f"{PREFIX}{os.urandom(4).hex()}")
    home.mkdir(mode=0o700)
    if plan.account is not None:
        home.chmod(0o711)
    locks.acquire(home)
    (home / THROWAWAY).write_text(str(os.getpid()))
    return home


def _kept_directory(plan: ServerPlan) -> Path:
    home = Path(plan.directory)
    if locks.try_acquire(home, patience=_STOP_SECONDS) is None:
        raise StartError(f"another supervisor runs the servers in {home}.")
    (home / PID).write_text(str(os.getpid()))
    return home


def _write_state(home: Path, state: dict[str, object]) -> None:
    partial = home / f"{STATE}.new"
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(state, file)
    partial.replace(home / STATE)


def _report(line: dict[str, object]) -> None:
    """Print the one line, and let go of standard output: a reader may be waiting for its end."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(line).encode() + b"\n")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _obituary(server: Server) -> str:
    return f"{server.name} ended (status {server.process.returncode}):\n{children.log_tail(server.log)}"
