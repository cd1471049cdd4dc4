"""Claims of work beside procrastinate's: a commit to Postgres that work is in hand, and one that it is done.

Ours are the ledger's, as `deliver` makes them: a statement for each batch that has gathered. procrastinate's are the
statements of its worker, on a pool of connections. Both take turns on one durable Postgres, in one process and in
several, with no work in between. A claim of ours makes a delivery's row; a job of procrastinate's is in its table
before, and is deleted when it is done. What puts a message on a queue, and what takes it off, is not measured.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench._common import ROOT, environment_with, machine, say, spread
from bench._deliver_rig import DURABLE
from bench._processes import tree_cpu_seconds
from bench._results import store
from bench.peers._systems import SYSTEMS, command, install, versions
from mauntic_jobs.embedded.servers import Servers, throwaway
from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.migrations.upgrade import upgrade
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres import session as postgres

_PEER = next(each for each in SYSTEMS if each.name == "procrastinate")
_WAYS = {
    "ours": [sys.executable, "-m", "bench.peers._ledger_claims"],
    "procrastinate": command(_PEER, "claim"),
}


def main() -> None:
    """Measure, and print what came out."""
    given = _arguments()
    install()
    with throwaway(postgres_settings=DURABLE) as servers:
        settings = Settings(database_url=servers.database_url)
        with postgres.connect(settings) as session:
            create_platform(session)
        upgrade(settings, lambda _: None)
        figures: dict[str, Any] = {"machine": machine(servers.database_url), "versions": versions()}
        figures |= {"claims": given.claims, "concurrency": given.concurrency, "results": []}
        for processes in given.processes:
            figures["results"].append(_compared(servers, processes, given))
            print(_text(figures["results"][-1]), flush=True)
    store(given.json, figures)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claims", type=int, default=10_000, help="of each measurement (default: 10000)")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4], help="default: 1 2 4")
    parser.add_argument("--concurrency", type=int, default=50, help="at once, of all processes (default: 50)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each measurement (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    return parser.parse_args()


def _compared(servers: Servers, processes: int, given: argparse.Namespace) -> dict[str, Any]:
    samples: dict[str, list[dict[str, float]]] = {way: [] for way in _WAYS}
    for number in range(given.rounds):
        say(f"{processes} processes, round {number + 1} of {given.rounds}")
        for way in _WAYS:
            samples[way].append(_measured(servers, way, processes, given.claims, given.concurrency))
    pairs = list(zip(samples["ours"], samples["procrastinate"], strict=True))
    return {
        "processes": processes,
        "rate_ratio": spread([ours["rate"] / peer["rate"] for ours, peer in pairs]),
        "cpu_ratio": spread([peer["cpu_ms"] / ours["cpu_ms"] for ours, peer in pairs]),
        "ways": {
            way: {name: spread([each[name] for each in some]) for name in some[0]} for way, some in samples.items()
        },
    }


def _measured(servers: Servers, way: str, processes: int, claims: int, concurrency: int) -> dict[str, float]:
    """Let processes claim and finish so much work; return claims a second, and CPU of all processes and Postgres."""
    with tempfile.TemporaryDirectory() as folder:
        values = {
            **environment_with(),
            "DATABASE_URL": servers.database_url,
            "REDIS_URL": servers.redis_url,
            "KIND": "no-op",
            "FOLDER": folder,
            "CONCURRENCY": str(max(concurrency // processes, 1)),
        }
        if way == "procrastinate":
            _run(command(_PEER, "enqueue"), values | {"COUNT": str(claims)})
        own = values | {"COUNT": str(claims // processes)}
        running = [_start(_WAYS[way], own) for _ in range(processes)]
        for each in running:
            _line(each)
        before = _cpu(servers, running)
        for each in running:
            _begin(each)
        spans = [tuple(map(float, _line(each).split())) for each in running]
        cpu = _cpu(servers, running) - before
        for each in running:
            each.communicate()
    seconds = max(ended for _, ended in spans) - min(began for began, _ in spans)
    return {"rate": claims / seconds, "cpu_ms": cpu * 1000 / claims}


def _run(words: list[str], values: Mapping[str, str]) -> None:
    subprocess.run(words, cwd=ROOT, env=dict(values), check=True, stdout=subprocess.DEVNULL)


def _start(words: list[str], values: Mapping[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(words, cwd=ROOT, env=dict(values), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _begin(process: "subprocess.Popen[str]") -> None:
    print(file=process.stdin, flush=True)


def _line(process: "subprocess.Popen[str]") -> str:
    """Return the next line that a process prints. Raises RuntimeError if it ends instead."""
    for line in process.stdout or ():
        return line
    raise RuntimeError(f"{process.args!r} has ended")


def _cpu(servers: Servers, running: list["subprocess.Popen[str]"]) -> float:
    return tree_cpu_seconds(servers.pid) + sum(tree_cpu_seconds(each.pid) for each in running)


def _text(result: Mapping[str, Any]) -> str:
    rate, cpu = result["rate_ratio"]["median"], result["cpu_ratio"]["median"]
    lines = [f"{result['processes']} processes: {rate:.2f} times the rate, {cpu:.2f} times as many for the same CPU"]
    for way, each in result["ways"].items():
        lines.append(f"  {way}: {each['rate']['median']:,.0f}/s, {each['cpu_ms']['median']:.3f} ms of CPU")
    return "\n".join(lines)


if __name__ == "__main__":
    began = time.perf_counter()
    main()
    say(f"took {time.perf_counter() - began:.0f} s")
