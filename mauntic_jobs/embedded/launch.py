"""Set-up and start of the two servers. Standard library only: the supervisor runs without site-packages."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from mauntic_jobs.embedded import die_with_parent as children

USER = DATABASE = "mauntic"
# sun_path holds 104 bytes on macOS and 108 on Linux, of which Postgres's own file name takes up to 17.
_MAX_SOCKET_DIRECTORY_LENGTH = 85
# Of postmaster.pid, whose first line is the process id.
_STATE_LINE = 8

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "unix_socket_permissions": "0700",
}
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class StartError(Exception):
    """A server did not start; the text says why."""


class ServerPlan(NamedTuple):
    """What the supervisor is asked to do, as passed to it in JSON."""

    # Kept servers: their directory. Throwaway: where to make one.
    directory: str
    throwaway: bool
    initdb: str
    postgres: str
    valkey_server: str
    # The uid and gid the servers run as; None for our own.
    account: tuple[int, int] | None
    postgres_settings: Mapping[str, str]


class Server(NamedTuple):
    """A started server. `ready` tells whether it answers yet; `stop_signals` go from polite to deadly."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    log: Path
    ready: Callable[[], bool]
    stop_signals: tuple[signal.Signals, ...]


def read_password(home: Path, account: tuple[int, int] | None) -> str:
    """Return the password of both servers, chosen on first use and kept as long as the data is."""
    path = home / "password"
    if not path.exists():
        partial = home / "password.new"
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(os.urandom(16).hex())
        _hand_over(partial, account)
        partial.rename(path)
    return path.read_text()


def create_database(plan: ServerPlan, home: Path, run: Callable[..., None]) -> None:
    """Initialize the data directory unless there is one; a half-made one is made again.

    `run` spawns a command with the keywords of `children.spawn` and raises StartError when it fails.
    """
    data, partial = home / "postgres", home / "postgres.new"
    if data.exists():
        return
    shutil.rmtree(partial, ignore_errors=True)
    _own_directory(partial, plan.account)
    command = [plan.initdb, "-D", str(partial), "-U", USER, "--pwfile", str(home / "password")]
    command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"]
    # Characters beyond ASCII are letters too, the same on every platform, and sorting is by code point.
    command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    run("initdb", [*command, "--no-sync"] if plan.throwaway else command)
    single = [plan.postgres, "--single", "-D", str(partial), "-c", "exit_on_error=on"]
    run("create database", [*single, *_options(plan, {}), "postgres"], stdin=f"CREATE DATABASE {DATABASE};\n".encode())
    partial.rename(data)


def start_postgres(plan: ServerPlan, home: Path, port: int) -> Server:
    """Start Postgres on `port` and, where its path is short enough, on a socket in a directory of its own."""
    data, sockets, log = home / "postgres", home / "socket", home / "postgres.log"
    _own_directory(sockets, plan.account)
    socket_directory = str(sockets) if len(os.fsencode(sockets)) <= _MAX_SOCKET_DIRECTORY_LENGTH else ""
    options = _options(plan, {"port": str(port), "unix_socket_directories": socket_directory})
    command = [plan.postgres, "-D", str(data), *options]
    process = children.spawn(command, directory=data, account=plan.account, log=log, death_signal=signal.SIGQUIT)
    signals = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
    return Server("Postgres", process, port, log, lambda: _postgres_ready(data, process.pid), signals)


def start_valkey(plan: ServerPlan, home: Path, port: int, password: str) -> Server:
    """Start Valkey on `port`, with its configuration on standard input so that no list of processes shows it."""
    data, log = home / "valkey", home / "valkey.log"
    _own_directory(data, plan.account)
    append_only = "no" if plan.throwaway else "yes"
    lines = ("bind 127.0.0.1", f"port {port}", f"requirepass {password}", 'save ""', f"appendonly {append_only}")
    command = [plan.valkey_server, "-"]
    config = "\n".join(lines).encode()
    process = children.spawn(command, directory=data, account=plan.account, log=log, stdin=config)
    signals = (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL)
    return Server("Valkey", process, port, log, lambda: _valkey_ready(port, password), signals)


def _options(plan: ServerPlan, settings: Mapping[str, str]) -> list[str]:
    merged = _SETTINGS | (_NOT_DURABLE if plan.throwaway else {}) | dict(plan.postgres_settings) | dict(settings)
    return [argument for name, value in merged.items() for argument in ("-c", f"{name}={value}")]


def _postgres_ready(data: Path, pid: int) -> bool:
    """Read what pg_ctl reads in postmaster.pid."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= _STATE_LINE and lines[0] == str(pid) and lines[_STATE_LINE - 1].strip() == "ready"


def _valkey_ready(port: int, password: str) -> bool:
    expected = b"+OK\r\n+PONG\r\n"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            return connection.recv(len(expected)) == expected
    except OSError:
        return False


def _own_directory(path: Path, account: tuple[int, int] | None) -> None:
    path.mkdir(mode=0o700, exist_ok=True)
    _hand_over(path, account)


def _hand_over(path: Path, account: tuple[int, int] | None) -> None:
    if account is not None:
        os.chown(path, *account)
