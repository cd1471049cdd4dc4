"""Throwaway Postgres and Valkey, which end with the process that asked for them."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, cast

from mauntic_jobs.embedded import binaries, directories as home
from mauntic_jobs.embedded.launch import ServerPlan
from mauntic_jobs.errors import UnavailableError

_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
# Appended, so that nothing beside the package can shadow the standard library.
_START = "import sys; sys.path.append(sys.argv[1]); from mauntic_jobs.embedded.supervisor import main; main()"
_STOP_SECONDS = 40.0


@dataclass(frozen=True)
class Servers:
    """A running pair: how to reach it, its directory, and its supervisor's process id."""

    database_url: str
    redis_url: str
    directory: Path
    pid: int


@contextmanager
def throwaway(*, postgres_settings: Mapping[str, str] = MappingProxyType({})) -> Iterator[Servers]:
    """Start fresh servers for the block; nothing of them is left however the process ends.

    `postgres_settings` are added to Postgres's own. Raises UnavailableError when a server does not start, and
    ConfigurationError when it could not.
    """
    process = spawn(home.throwaway_base(), throwaway=True, postgres_settings=postgres_settings)
    try:
        yield read_servers(process)
    finally:
        _stop(process)


def spawn(
    directory: Path,
    *,
    throwaway: bool,
    postgres_settings: Mapping[str, str] = MappingProxyType({}),
    stderr: IO[str] | None = None,
) -> subprocess.Popen[str]:
    """Start a supervisor in a session of its own."""
    programs = binaries.locate()
    plan = ServerPlan(
        directory=str(directory),
        throwaway=throwaway,
        initdb=str(programs.initdb),
        postgres=str(programs.postgres),
        valkey_server=str(programs.valkey_server),
        account=home.server_account(),
        postgres_settings=dict(postgres_settings),
    )
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _START, str(_PACKAGE_ROOT), json.dumps(plan._asdict())],
        cwd="/",
        stdin=subprocess.PIPE if throwaway else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
        text=True,
    )


def read_servers(process: subprocess.Popen[str]) -> Servers:
    """Wait for a supervisor's line; raises UnavailableError with the reason when the servers did not start."""
    line = cast("IO[str]", process.stdout).readline()
    state = json.loads(line) if line else {"error": "their supervisor ended before they were ready."}
    if "error" in state:
        raise UnavailableError(f"The embedded servers did not start: {state['error']}")
    return parse(state)


def parse(state: Mapping[str, object]) -> Servers:
    """Servers as their supervisor describes them; raises KeyError or TypeError for anything else."""
    values = [state[name] for name in ("database_url", "redis_url", "directory", "pid")]
    match values:
        case [str(database_url), str(redis_url), str(directory), int(pid)]:
            return Servers(database_url, redis_url, Path(directory), pid)
    raise TypeError(f"not a description of servers: {values}")


def _stop(process: subprocess.Popen[str]) -> None:
    # Leaving the block closes its input, on which it ends; but a process forked off this one may hold a copy of that.
    with process:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
