"""`deliver` against a Node engine that does the same for each message, and the two consumers without any work.

Both take the same messages from BullMQ queues in the same Valkey, look the same things up in the same Postgres, which
is durable, and send to the same SMTP sink, in turn, or with --relay to a Postfix, which keeps them in its queue on the
disk before it says yes. Node, npm and `smtp-sink` (of the package postfix) are needed, and Linux, which says what each
process costs.
"""

import argparse
import os
import shutil
import time
from pathlib import Path
from typing import Any

from bench._common import machine, say, spread
from bench._deliver_memory import memory
from bench._deliver_rig import Queue, Rig, rig
from bench._postfix import missing
from bench._results import store

_WAYS = {"messages": ("node", "deliver"), "no-op": ("node no-op", "no-op")}


def main() -> None:
    """Measure, and print what came out."""
    given = _arguments()
    extra = {"PREPARE": "1"} if given.prepare else {}
    with rig(given.smtp_sink, flush_ms=given.flush_ms, extra=extra, relay=given.relay) as running:
        figures: dict[str, Any] = {"machine": machine(running.servers.database_url), "messages": given.messages}
        work = _memories if given.memory else _comparisons
        figures["results"] = work(running, given)
    store(given.json, figures)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=5000, help="messages of each measurement (default: 5000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each measurement (default: 5)")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[5, 50], help="default: 5 50")
    parser.add_argument("--kinds", nargs="+", choices=list(_WAYS), default=list(_WAYS), help="default: all")
    parser.add_argument("--memory", action="store_true", help="instead, follow the memory of our process, kind by kind")
    parser.add_argument(
        "--flush-ms", type=float, default=0.0, metavar="MS", help="a slower disk: a flush of the log takes that longer"
    )
    parser.add_argument(
        "--prepare", action="store_true", help="let the Node engine prepare its statements, as few poolers allow"
    )
    parser.add_argument("--relay", action="store_true", help="send to a Postfix, not to the sink; needs root")
    parser.add_argument("--smtp-sink", default=shutil.which("smtp-sink"), help="the program; default: from the path")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    given = parser.parse_args()
    if not given.smtp_sink:
        parser.error("there is no smtp-sink: install the package postfix, or name the program with --smtp-sink")
    if given.relay and (reason := missing()):
        parser.error(reason)
    return given


def _memories(running: Rig, given: argparse.Namespace) -> list[dict[str, Any]]:
    results = []
    for kind in given.kinds:
        samples = memory(running, _WAYS[kind][1], given.messages, given.concurrency[-1])
        results.append({"kind": kind, "samples": samples})
        print(f"{kind}: " + ", ".join(f"{each['jobs']:,}: {each['rss_mb']:.1f} MB" for each in samples), flush=True)
    return results


def _comparisons(running: Rig, given: argparse.Namespace) -> list[dict[str, Any]]:
    results = []
    for kind in given.kinds:
        for concurrency in given.concurrency:
            results.append(_compared(running, kind, concurrency, given))
            print(_text(results[-1]), flush=True)
    return results


def _compared(running: Rig, kind: str, concurrency: int, given: argparse.Namespace) -> dict[str, Any]:
    """Return the rates of both ways, taking turns, and what they take besides."""
    samples: dict[str, list[dict[str, float]]] = {way: [] for way in _WAYS[kind]}
    for number in range(given.rounds):
        say(f"{kind}, concurrency {concurrency}, round {number + 1} of {given.rounds}")
        for way in _WAYS[kind]:
            samples[way].append(measured(running, way, concurrency, given.messages))
    peer, own = (samples[way] for way in _WAYS[kind])
    return {
        "kind": kind,
        "concurrency": concurrency,
        "ratio": spread([b["rate"] / a["rate"] for a, b in zip(peer, own, strict=True)]),
        "cpu_ratio": spread([_cpu(a) / _cpu(b) for a, b in zip(peer, own, strict=True)]),
        "ways": {
            way: {name: spread([each[name] for each in some]) for name in some[0]} for way, some in samples.items()
        },
    }


def measured(running: Rig, way: str, concurrency: int, messages: int) -> dict[str, float]:
    """Run one way over fresh messages; timed from the first job's being taken to the last one's being finished.

    CPU is in milliseconds for each message, by process, without what it takes to start, send one and stop.
    """
    start, _ = _run(running, way, running.queue(1, concurrency))
    queue = running.queue(messages, concurrency)
    whole, rss_mb = _run(running, way, queue)
    cpu = {name: (whole[name] - start[name]) * 1000 / messages for name in whole}
    return {"rate": messages / _seconds(running, queue), "rss_mb": rss_mb, **cpu}


def _run(running: Rig, way: str, queue: Queue) -> tuple[dict[str, float], float]:
    """Consume a queue; return the CPU seconds of each process, and the consumer's peak memory in MB."""
    before = running.cpu()
    process = running.consumer(way, queue)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{way} has ended with status {process.returncode}")
    servers = {name: after - before[name] for name, after in running.cpu().items()}
    return {"client": usage.ru_utime + usage.ru_stime, **servers}, usage.ru_maxrss * 1024 / 1e6


def _cpu(sample: dict[str, float]) -> float:
    return sum(value for name, value in sample.items() if name not in ("rate", "rss_mb"))


def _seconds(running: Rig, queue: Queue) -> float:
    """Return how long it took by the times in the jobs themselves, and forget the queue."""
    ids = [each.decode() for each in running.ask("ZRANGE", f"{queue.base}:completed", 0, -1)]
    if len(ids) != queue.jobs:
        raise RuntimeError(f"{len(ids)} of {queue.jobs} jobs have completed")
    times = running.ask_all([("HMGET", f"{queue.base}:{job}", "processedOn", "finishedOn") for job in ids])
    running.ask("FLUSHALL")
    return (max(int(finished) for _, finished in times) - min(int(taken) for taken, _ in times)) / 1000


def _text(result: dict[str, Any]) -> str:
    ratio, cpu_ratio = result["ratio"], result["cpu_ratio"]
    first = (
        f"{result['kind']}, concurrency {result['concurrency']}: "
        f"{ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f}) times the rate, "
        f"{cpu_ratio['median']:.2f} ({cpu_ratio['min']:.2f}-{cpu_ratio['max']:.2f}) times as many for the same CPU"
    )
    lines = [first]
    for way, each in result["ways"].items():
        rate = each["rate"]
        cpu = ", ".join(f"{name} {each[name]['median']:.3f}" for name in each if name not in ("rate", "rss_mb"))
        lines.append(
            f"  {way}: {rate['median']:,.0f}/s ({rate['min']:,.0f}-{rate['max']:,.0f}), "
            f"CPU ms a message: {cpu}; {each['rss_mb']['max']:.0f} MB"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    began = time.perf_counter()
    main()
    say(f"took {time.perf_counter() - began:.0f} s")
