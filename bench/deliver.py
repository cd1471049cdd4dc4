"""`deliver` against a Node engine that does the same for each message, and the two consumers without any work.

Both take the same messages from BullMQ queues in the same Valkey, look the same things up in the same Postgres, which
is durable, and send to the same SMTP sink, in turn. Node, npm and `smtp-sink` (of the package postfix) are needed.
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from bench._common import BENCH, ROOT, connect, machine, say, spread, statements
from mauntic_jobs.config import Settings
from mauntic_jobs.embedded.servers import Servers, throwaway
from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.migrations.upgrade import upgrade
from mauntic_jobs.stores import postgres
from mauntic_jobs.stores.redis import open_redis

_PEER = BENCH / "node_peer"
# A claim that is not on the disk is no claim.
_DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "shared_buffers": "512MB"}
_QUEUE = "send-email"
_SINK_SESSIONS = "200"
_WAYS = {"messages": ("node", "deliver"), "no-op": ("node no-op", "no-op")}


def main() -> None:
    """Measure, and print what came out."""
    given = _arguments()
    install = [_program("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run(install, cwd=_PEER, check=True, capture_output=True)
    with throwaway(postgres_settings=_DURABLE) as servers, _sink(given.smtp_sink) as port:
        _prepare(servers)
        figures: dict[str, Any] = {"machine": machine(servers.database_url), "messages": given.messages, "results": []}
        for kind in given.kinds:
            for concurrency in given.concurrency:
                result = _compared(servers, port, kind, concurrency, given)
                figures["results"].append(result)
                print(_line(result), flush=True)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=5000, help="messages of each measurement (default: 5000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each measurement (default: 5)")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[5, 50], help="default: 5 50")
    parser.add_argument("--kinds", nargs="+", choices=list(_WAYS), default=list(_WAYS), help="default: all")
    parser.add_argument("--smtp-sink", default=shutil.which("smtp-sink"), help="the program; default: from the path")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    given = parser.parse_args()
    if not given.smtp_sink:
        parser.error("there is no smtp-sink: install the package postfix, or name the program with --smtp-sink")
    return given


@contextmanager
def _sink(program: str) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    process = subprocess.Popen([program, "-u", "nobody", "-m", _SINK_SESSIONS, f"127.0.0.1:{port}", "100"])
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is not installed")
    return found


def _prepare(servers: Servers) -> None:
    settings = Settings(database_url=servers.database_url)
    with postgres.connect(settings) as session:
        create_platform(session)
    upgrade(settings, lambda _: None)


def _compared(servers: Servers, port: int, kind: str, concurrency: int, given: argparse.Namespace) -> dict[str, Any]:
    """Return the rates of both ways, taking turns, and what they take besides."""
    samples: dict[str, list[dict[str, float]]] = {way: [] for way in _WAYS[kind]}
    for number in range(given.rounds):
        say(f"{kind}, concurrency {concurrency}, round {number + 1} of {given.rounds}")
        for way in _WAYS[kind]:
            samples[way].append(_measured(servers, port, way, concurrency, given.messages))
    peer, own = (samples[way] for way in _WAYS[kind])
    return {
        "kind": kind,
        "concurrency": concurrency,
        "rates": {way: spread([each["rate"] for each in samples[way]]) for way in samples},
        "ratio": spread([b["rate"] / a["rate"] for a, b in zip(peer, own, strict=True)]),
        "cpu_ms_per_message": {way: spread([each["cpu_ms"] for each in samples[way]]) for way in samples},
        "peak_rss_mb": {way: max(each["rss_mb"] for each in samples[way]) for way in samples},
    }


def _measured(servers: Servers, port: int, way: str, concurrency: int, messages: int) -> dict[str, float]:
    """Run one way over fresh messages; timed from the first job's being taken to the last one's being finished."""
    prefix = f"bench-{uuid4().hex}"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MAUNTIC_")},
        "DATABASE_URL": servers.database_url,
        "REDIS_URL": servers.redis_url,
        "PREFIX": f"{prefix}:delivery",
        "QUEUE": _QUEUE,
        "COUNT": str(messages),
        "CONCURRENCY": str(concurrency),
        **_tenant(servers, port, messages),
    }
    subprocess.run([_program("node"), "produce.mjs"], cwd=_PEER, env=environment, check=True, capture_output=True)
    own = {
        "MAUNTIC_QUEUE_PREFIX": prefix,
        "MAUNTIC_ALLOWED_NETWORKS": "127.0.0.0/8",
        "MAUNTIC_DELIVER_CONCURRENCY": f"email={concurrency}",
    }
    commands = {
        "node": ([_program("node"), "peer.mjs"], _PEER),
        "node no-op": ([_program("node"), "noop.mjs"], _PEER),
        "deliver": ([sys.executable, "-m", "mauntic_jobs", "deliver", "email", "--drain"], ROOT),
        "no-op": ([sys.executable, str(BENCH / "_noop_consumer.py")], ROOT),
    }
    command, place = commands[way]
    process = subprocess.Popen(command, cwd=place, env={**environment, **own}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{way} has ended with status {process.returncode}")
    seconds = _seconds(servers, f"{prefix}:delivery:{_QUEUE}", messages)
    return {
        "rate": messages / seconds,
        "cpu_ms": (usage.ru_utime + usage.ru_stime) * 1000 / messages,
        "rss_mb": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6,
    }


def _tenant(servers: Servers, port: int, messages: int) -> Mapping[str, str]:
    """Make an organization with what a campaign needs, and return its ids as the producer takes them."""
    ids: dict[str, UUID] = {name: uuid4() for name in ("ORG", "JOB", "TEMPLATE")}
    words = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor."
    filler = f"<p style='margin:0 0 16px'>{words}</p>\n"
    named = "<p>{{firstName}} {{lastName}} of {{company}}: {{product}} is {{price}} in {{city}}, {{month}}.</p>\n"
    html = f"<html><body>\n{named}{filler * 27}{named}{filler * 27}<p>{{{{code}}}} {{{{score}}}}</p>\n</body></html>\n"
    config = {"host": "127.0.0.1", "port": port, "secure": False, "from": "News <news@acme.test>"}
    with connect(servers.database_url) as connection:
        for statement in statements("deliver").values():
            connection.execute(
                statement,
                {
                    **{name.lower(): value for name, value in ids.items()},
                    "config": json.dumps(config),
                    "html": html,
                    "text": "Dear {{firstName}}, {{product}} is {{price}}. {{unsubscribeUrl}}\n",
                    "messages": messages,
                },
            )
        connection.execute("CHECKPOINT")
    return {name: str(value) for name, value in ids.items()}


def _seconds(servers: Servers, base: str, messages: int) -> float:
    """Return how long it took by the times in the jobs themselves, and forget the queue."""
    redis = open_redis(Settings(redis_url=servers.redis_url))
    try:
        ids = [each.decode() for each in redis.command("ZRANGE", f"{base}:completed", 0, -1)]
        if len(ids) != messages:
            raise RuntimeError(f"{len(ids)} of {messages} jobs have completed")
        times = [redis.command("HMGET", f"{base}:{job}", "processedOn", "finishedOn") for job in ids]
        redis.command("FLUSHALL")
    finally:
        redis.close()
    return (max(int(finished) for _, finished in times) - min(int(taken) for taken, _ in times)) / 1000


def _line(result: dict[str, Any]) -> str:
    rates = ", ".join(
        f"{way} {rate['median']:,.0f}/s ({rate['min']:,.0f}-{rate['max']:,.0f}), "
        f"{result['cpu_ms_per_message'][way]['median']:.2f} ms CPU, {result['peak_rss_mb'][way]:.0f} MB"
        for way, rate in result["rates"].items()
    )
    ratio = result["ratio"]
    return (
        f"{result['kind']}, concurrency {result['concurrency']}: {rates}; "
        f"ratio {ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})"
    )


if __name__ == "__main__":
    began = time.perf_counter()
    main()
    say(f"took {time.perf_counter() - began:.0f} s")
