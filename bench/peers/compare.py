"""Peers beside `deliver` and its consumer: the same job without any work, and the same email to the same SMTP sink.

Celery, dramatiq, taskiq, arq, SAQ and procrastinate, each set so that a job survives its worker, in an environment of
their own that the first run makes from requirements/peers.txt; Node's BullMQ; and ours. All take turns over the same
Valkey and Postgres. Over SMTP the peers send and do nothing else, while `deliver` and the Node engine look up what an
email depends on, and record it. Needs Node, npm and `smtp-sink` of the package postfix, and Linux.
"""

import argparse
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench._common import ROOT, machine, say, spread
from bench._deliver_rig import TEMPLATE, Rig, rig
from bench._processes import tree_cpu_seconds
from bench._results import store
from bench.deliver import measured
from bench.peers._systems import SYSTEMS, System, command, described, install, tallies, versions
from bench.peers._tally import PLACE

_OWN = {
    "no-op": {"ours": "no-op", "Node's BullMQ": "node no-op"},
    "smtp": {"ours": "deliver", "Node's BullMQ": "node"},
}
_LONGEST_SECONDS = 300


def main() -> None:
    """Measure, and print what came out."""
    given = _arguments()
    install()
    with rig(given.smtp_sink, extra={}) as running:
        figures: dict[str, Any] = {"machine": machine(running.servers.database_url), "versions": versions()}
        figures |= {"systems": described(), "results": []}
        for kind in given.kinds:
            for concurrency in given.concurrency:
                figures["results"].append(_compared(running, kind, concurrency, given))
                print("\n".join(_lines(figures["results"][-1])), flush=True)
    store(given.json, figures)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000, help="jobs of each measurement (default: 10000)")
    parser.add_argument("--messages", type=int, default=3000, help="messages of each measurement (default: 3000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each measurement (default: 3)")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[5, 50], help="default: 5 50")
    parser.add_argument("--kinds", nargs="+", choices=list(_OWN), default=list(_OWN), help="default: all")
    names = [each.name for each in SYSTEMS]
    parser.add_argument("--systems", nargs="+", choices=names, default=names, help="default: all")
    parser.add_argument("--smtp-sink", default=shutil.which("smtp-sink"), help="the program; default: from the path")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    given = parser.parse_args()
    if not given.smtp_sink:
        parser.error("there is no smtp-sink: install the package postfix, or name the program with --smtp-sink")
    return given


def _compared(running: Rig, kind: str, concurrency: int, given: argparse.Namespace) -> dict[str, Any]:
    """Return the rate and CPU of every way, which take turns, and the ratios to ours, round by round."""
    count = given.jobs if kind == "no-op" else given.messages
    systems = [each for each in SYSTEMS if each.name in given.systems and concurrency <= each.most_at_once]
    start = {each.name: _peer(running, each, kind, concurrency, 1)["cpu"] for each in systems}
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in (*_OWN[kind], *(each.name for each in systems))}
    for number in range(given.rounds):
        say(f"{kind}, {concurrency} at once, round {number + 1} of {given.rounds}")
        for name, way in _OWN[kind].items():
            found = measured(running, way, concurrency, count)
            cpu = sum(value for part, value in found.items() if part not in ("rate", "rss_mb"))
            samples[name].append({"rate": found["rate"], "cpu_ms": cpu})
        for system in systems:
            found = _peer(running, system, kind, concurrency, count)
            cpu = (found["cpu"] - start[system.name]) * 1000 / count
            samples[system.name].append({"rate": found["rate"], "cpu_ms": cpu})
    return {"kind": kind, "concurrency": concurrency, "count": count, "ways": _ratios(samples)}


def _ratios(samples: Mapping[str, list[dict[str, float]]]) -> dict[str, Any]:
    ours = samples["ours"]
    return {
        name: {
            "rate": spread([each["rate"] for each in some]),
            "cpu_ms": spread([each["cpu_ms"] for each in some]),
            "rate_ratio": spread([our["rate"] / each["rate"] for our, each in zip(ours, some, strict=True)]),
            "cpu_ratio": spread([each["cpu_ms"] / our["cpu_ms"] for our, each in zip(ours, some, strict=True)]),
        }
        for name, some in samples.items()
    }


def _peer(running: Rig, system: System, kind: str, concurrency: int, count: int) -> dict[str, float]:
    """Let a peer do so many jobs; return jobs a second from the first's start to the last's end, and CPU seconds.

    CPU is of the peer's processes and of the servers, with what it takes to start and stop.
    """
    running.ask("FLUSHALL")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        values = environment(running, system, kind, concurrency, count, folder)
        subprocess.run(command(system, "enqueue"), cwd=ROOT, env=values, check=True, stdout=subprocess.DEVNULL)
        before = sum(running.cpu().values())
        with working(system, values) as process:
            found = _until_done(process, folder, count)
            # By now every job that is done is acknowledged.
            time.sleep(1)
            cpu = tree_cpu_seconds(process.pid)
        return {**found, "cpu": cpu + sum(running.cpu().values()) - before}


def environment(running: Rig, system: System, kind: str, concurrency: int, count: int, folder: Path) -> dict[str, str]:
    """Return what a peer's processes are told; the templates are put into the folder."""
    for part, text in TEMPLATE.items():
        (folder / f"template.{part}").write_text(text, "utf-8")
    return {
        **os.environ,
        **system.environment,
        "KIND": kind,
        "COUNT": str(count),
        "CONCURRENCY": str(concurrency),
        "FOLDER": str(folder),
        "SMTP_PORT": str(running.receiver.port),
        "REDIS_URL": running.servers.redis_url,
        "DATABASE_URL": running.servers.database_url,
    }


@contextmanager
def working(system: System, values: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a peer's worker in a process group of its own, which is killed afterwards."""
    process = subprocess.Popen(
        command(system, "work"),
        cwd=ROOT,
        env=values,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _until_done(process: subprocess.Popen[bytes], folder: Path, count: int) -> dict[str, float]:
    """Wait until so many jobs are done."""
    ends = time.monotonic() + _LONGEST_SECONDS
    while True:
        noted = [PLACE.unpack(each) for each in tallies(folder)]
        done = sum(each[2] for each in noted)
        if done >= count:
            seconds = max(each[1] for each in noted) - min(each[0] for each in noted)
            return {"rate": done / max(seconds, 1e-6)}
        if process.poll() is not None or time.monotonic() > ends:
            raise RuntimeError(f"{process.args!r} has done {done} of {count} jobs")
        time.sleep(0.1)


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"{result['kind']}, {result['concurrency']} at once:"
    for name, each in result["ways"].items():
        yield (
            f"  {name}: {each['rate']['median']:,.0f}/s, {each['cpu_ms']['median']:.2f} ms of CPU;"
            f" ours {each['rate_ratio']['median']:.2f} times the rate, {each['cpu_ratio']['median']:.2f} of the CPU"
        )


if __name__ == "__main__":
    began = time.perf_counter()
    main()
    say(f"took {time.perf_counter() - began:.0f} s")
