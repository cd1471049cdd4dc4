"""Systems that the benchmark of peers compares, with what each does for a job whose worker is killed."""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench._common import ROOT
from bench._deliver_rig import PEER
from mauntic_jobs import __version__

# arq wants an older driver for Redis than others allow.
_GROUPS = ("peers", "peers-arq")


@dataclass(frozen=True)
class System:
    """A peer: the module that runs it, the package whose version is stated, and how it is set."""

    name: str
    module: str
    package: str
    settings: str
    after_kill: str
    environment: Mapping[str, str] = field(default_factory=dict)
    most_at_once: int = 1000
    group: str = "peers"


SYSTEMS = (
    System(
        "Celery, prefork",
        "_celery",
        "celery",
        "acks_late, reject_on_worker_lost, prefetch 64 a process",
        "again after the visibility timeout (1 h)",
        most_at_once=5,
    ),
    System(
        "Celery, gevent",
        "_celery",
        "celery",
        "acks_late, prefetch 64 a greenlet",
        "again after the visibility timeout (1 h)",
        {"POOL": "gevent"},
    ),
    System(
        "dramatiq",
        "_dramatiq",
        "dramatiq",
        "1 process, threads",
        "again after the heartbeat timeout (1 min)",
    ),
    System(
        "taskiq",
        "_taskiq",
        "taskiq",
        "RedisStreamBroker, ack when executed, uvloop",
        "again after the idle timeout (10 min)",
    ),
    System(
        "arq",
        "_arq",
        "arq",
        "poll_delay 10 ms, queue_read_limit 1000, uvloop",
        "again after the job timeout and 10 s (5 min)",
        group="peers-arq",
    ),
    System(
        "SAQ",
        "_saq",
        "saq",
        "retries 4, no results, uvloop",
        "again after the job timeout (10 s), by a sweep each minute",
    ),
    System(
        "procrastinate",
        "_procrastinate",
        "procrastinate",
        "a pool of connections, deletes done jobs, uvloop",
        "stays `doing` until a task of the user's retries stalled jobs",
    ),
)


def versions() -> dict[str, str]:
    """Return the versions that the lock files pin, by package."""
    pinned: dict[str, str] = {}
    for group in reversed(_GROUPS):
        pinned |= dict(re.findall(r"^([\w.-]+)==(\S+)", _lock(group).read_text("utf-8"), re.MULTILINE))
    node = json.loads((PEER / "package-lock.json").read_text("utf-8"))["packages"]
    names = {each.package for each in SYSTEMS} | {"taskiq-redis", "uvloop"}
    return {name: pinned[name] for name in sorted(names)} | {"bullmq": node["node_modules/bullmq"]["version"]}


def described() -> dict[str, dict[str, str]]:
    """Return each system with its version, its settings, and what becomes of a job whose worker is killed."""
    pinned = versions()
    own = {
        "ours": {
            "version": __version__,
            "settings": "1 process",
            "after": "again after the lock expires (30 s); an email only if the ledger knows that it was not sent",
        },
        "Node's BullMQ": {
            "version": pinned["bullmq"],
            "settings": "1 process, a Worker",
            "after": "again after the lock expires (30 s)",
        },
    }
    return own | {
        each.name: {"version": pinned[each.package], "settings": each.settings, "after": each.after_kill}
        for each in SYSTEMS
    }


def install() -> None:
    """Make the environments of the peers what their lock files say, unless they are."""
    for group in _GROUPS:
        place, digest = ROOT / ".venv" / group, hashlib.sha256(_lock(group).read_bytes()).hexdigest()
        stamp = place / "installed"
        if stamp.exists() and stamp.read_text("utf-8") == digest:
            continue
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        pip = [str(python(group)), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, "--require-hashes", "-r", str(_lock(group))], check=True, stdout=sys.stderr)
        stamp.write_text(digest, "utf-8")


def command(system: System, act: str) -> list[str]:
    """Return the command line that lets a peer `enqueue` or `work`."""
    return [str(python(system.group)), "-m", f"bench.peers.{system.module}", act]


def _lock(group: str) -> Path:
    return ROOT / "requirements" / f"{group}.txt"


def python(group: str) -> Path:
    """Return the interpreter of an environment."""
    return ROOT / ".venv" / group / "bin" / "python"


def tallies(folder: Path) -> list[bytes]:
    """Return what the processes of a peer have noted; a file that is being made is empty."""
    return [noted for path in folder.glob("*.tally") if (noted := path.read_bytes())]
