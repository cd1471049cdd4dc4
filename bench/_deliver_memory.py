"""How much memory a consuming process holds as the messages go by."""

import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

from bench._common import say
from bench._deliver_rig import Queue, Rig

_SHARES = 10
_LOOK_SECONDS = 0.25


def memory(rig: Rig, way: str, jobs: int, concurrency: int) -> list[dict[str, float]]:
    """Return the resident memory in MB after each tenth of so many jobs."""
    say(f"{way}: putting {jobs:,} jobs on the queue")
    queue = rig.queue(jobs, concurrency, keep=False)
    process = rig.consumer(way, queue)
    samples = list(_samples(rig, queue, process))
    if process.wait():
        raise RuntimeError(f"{way} has ended with status {process.returncode}")
    rig.ask("FLUSHALL")
    return samples


def _samples(rig: Rig, queue: Queue, process: Popen[bytes]) -> Iterator[dict[str, float]]:
    following = step = queue.jobs // _SHARES
    while process.poll() is None:
        parts = (("LLEN", "wait"), ("LLEN", "active"), ("ZCARD", "prioritized"))
        left = sum(int(rig.ask(count, f"{queue.base}:{part}")) for count, part in parts)
        rss = _rss(process.pid)
        if queue.jobs - left >= following and rss:
            say(f"{queue.jobs - left:,} jobs: {rss:.1f} MB")
            yield {"jobs": queue.jobs - left, "rss_mb": rss}
            following += step
        time.sleep(_LOOK_SECONDS)


def _rss(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text("utf-8")
    except OSError:
        return 0.0
    lines = dict(line.partition(":")[::2] for line in status.splitlines())
    return int(lines.get("VmRSS", "0 kB").split()[0]) * 1024 / 1e6
