"""Rig that measures `deliver`: servers, a receiver of emails, a full queue, and the ways to consume it."""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

from bench._common import BENCH, ROOT, connect, environment_with, statements
from bench._postfix import postfix_command
from bench._processes import cpu_seconds, tree_cpu_seconds
from mauntic_jobs.embedded.servers import Servers, throwaway
from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.migrations.upgrade import upgrade
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres import session as postgres
from mauntic_jobs.stores.redis.client import open_redis

PEER = BENCH / "node_peer"
# A claim that is not on the disk is no claim.
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "shared_buffers": "512MB"}
_QUEUE = "send-email"
_SINK_SESSIONS = "200"
_WORDS = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor."
_FILLER = f"<p style='margin:0 0 16px'>{_WORDS}</p>\n" * 27
_NAMED = "<p>{{firstName}} {{lastName}} of {{company}}: {{product}} is {{price}} in {{city}}, {{month}}.</p>\n"
TEMPLATE = {
    "subject": "Hello {{firstName}}",
    "html": f"<html><body>\n{_NAMED}{_FILLER}{_NAMED}{_FILLER}<p>{{{{code}}}} {{{{score}}}}</p>\n</body></html>\n",
    "text": "Dear {{firstName}}, {{product}} is {{price}}. {{unsubscribeUrl}}\n",
}


@dataclass(frozen=True)
class Queue:
    """A queue full of jobs: its key in Redis, and what a consumer is told by the environment."""

    base: str
    environment: Mapping[str, str]
    jobs: int


@dataclass(frozen=True)
class Rig:
    """Running servers, the receiver of emails, and what is added to the environment of every process."""

    servers: Servers
    receiver: "_Receiver"
    extra: Mapping[str, str]

    def queue(self, jobs: int, concurrency: int, *, keep: bool = True) -> Queue:
        """Fill a queue of its own with an organization's messages; without `keep`, jobs vanish when they complete."""
        prefix = f"bench-{uuid4().hex}"
        environment = {
            **environment_with(),
            "DATABASE_URL": self.servers.database_url,
            "REDIS_URL": self.servers.redis_url,
            "PREFIX": f"{prefix}:delivery",
            "QUEUE": _QUEUE,
            "COUNT": str(jobs),
            "CONCURRENCY": str(concurrency),
            "KEEP": "1" if keep else "0",
            "MAUNTIC_QUEUE_PREFIX": prefix,
            "MAUNTIC_ALLOWED_NETWORKS": "127.0.0.0/8",
            "MAUNTIC_DELIVER_CONCURRENCY": f"email={concurrency}",
            **_tenant(self.servers, self.receiver.port, jobs),
            **self.extra,
        }
        subprocess.run([program("node"), "produce.mjs"], cwd=PEER, env=environment, check=True, capture_output=True)
        return Queue(f"{prefix}:delivery:{_QUEUE}", environment, jobs)

    def consumer(self, way: str, queue: Queue) -> subprocess.Popen[bytes]:
        """Start a process that consumes the queue and ends."""
        commands = {
            "node": ([program("node"), "peer.mjs"], PEER),
            "node no-op": ([program("node"), "noop.mjs"], PEER),
            "deliver": ([sys.executable, "-m", "mauntic_jobs", "deliver", "email", "--drain"], ROOT),
            "no-op": ([sys.executable, str(BENCH / "_noop_consumer.py")], ROOT),
        }
        command, place = commands[way]
        return subprocess.Popen(command, cwd=place, env=queue.environment, stdout=subprocess.DEVNULL)

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds that the servers have taken so far."""
        return {
            "Postgres": cpu_seconds(self.servers.pid, "postgres"),
            "Valkey": cpu_seconds(self.servers.pid, "valkey"),
            "sink": tree_cpu_seconds(self.receiver.process),
        }

    def ask(self, *words: Any) -> Any:
        """Ask Valkey."""
        return self.ask_all([words])[0]

    def ask_all(self, questions: Sequence[Sequence[Any]]) -> list[Any]:
        """Ask Valkey over one connection."""
        with contextlib.closing(open_redis(Settings(redis_url=self.servers.redis_url))) as redis:
            return [redis.command(*words) for words in questions]


@dataclass(frozen=True)
class _Receiver:
    """The receiver of the emails: its port, and the process that runs it or starts its processes."""

    port: int
    process: int


@contextmanager
def rig(smtp_sink: str, *, flush_ms: float = 0.0, extra: Mapping[str, str], relay: bool = False) -> Iterator[Rig]:
    """Start everything. With `flush_ms`, Postgres takes at least so long to write a commit to the disk.

    Emails are taken by `smtp_sink`, or with `relay` by a Postfix.
    """
    install_node_peer()
    slow = {"commit_delay": str(round(flush_ms * 1000)), "commit_siblings": "0"} if flush_ms else {}
    with ExitStack() as stack:
        servers = stack.enter_context(throwaway(postgres_settings=DURABLE | slow))
        settings = Settings(database_url=servers.database_url)
        with postgres.connect(settings) as session:
            create_platform(session)
        upgrade(settings, lambda _: None)
        receiver = stack.enter_context(_postfix() if relay else _sink(smtp_sink))
        yield Rig(servers, receiver, extra)


def install_node_peer() -> None:
    """Install the Node packages of the lock file, unless they are; other benchmarks may be using them."""
    stamp, digest = PEER / "node_modules" / ".installed", sha256((PEER / "package-lock.json").read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text("utf-8") != digest:
        command = [program("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=PEER, check=True, capture_output=True)
        stamp.write_text(digest, "utf-8")


def program(name: str) -> str:
    """Return where a program is."""
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is not installed")
    return found


@contextmanager
def _sink(smtp_sink: str) -> Iterator[_Receiver]:
    port = _free_port()
    with _listening([smtp_sink, "-u", "nobody", "-m", _SINK_SESSIONS, f"127.0.0.1:{port}", "100"], port) as receiver:
        yield receiver


@contextmanager
def _postfix() -> Iterator[_Receiver]:
    port = _free_port()
    with postfix_command(port) as command, _listening(command, port) as receiver:
        yield receiver


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def _listening(command: list[str], port: int) -> Iterator[_Receiver]:
    process = subprocess.Popen(command)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield _Receiver(port, process.pid)
    finally:
        process.terminate()
        process.wait()


def _tenant(servers: Servers, port: int, messages: int) -> Mapping[str, str]:
    """Make an organization with what a campaign needs, and return its ids as the producer takes them."""
    ids: dict[str, UUID] = {name: uuid4() for name in ("ORG", "JOB", "TEMPLATE")}
    config = {"host": "127.0.0.1", "port": port, "secure": False, "from": "News <news@acme.test>"}
    values = {
        **{name.lower(): value for name, value in ids.items()},
        "config": json.dumps(config),
        **TEMPLATE,
        "messages": messages,
    }
    with connect(servers.database_url) as connection:
        for statement in statements("deliver").values():
            connection.execute(statement, values)
        connection.execute("CHECKPOINT")
    return {name: str(value) for name, value in ids.items()}
