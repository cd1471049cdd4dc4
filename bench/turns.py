"""Turns on a long queue: how fast it is sorted into lanes, what that costs, and whether organizations get equal shares.

One hundred organizations have queues whose lengths differ by 10,000; the longest stands first. One connection takes and
completes a job at a time, as the slots of `deliver` do, by the same scripts; nothing is sent. Once a second an
organization of its own adds a message behind all others.
"""

import argparse
import json
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import redis

from bench._common import machine, say
from bench._results import store
from mauntic_jobs.delivery.consumer.queue_calls import TAKING, consumer_script
from mauntic_jobs.embedded.servers import throwaway
from mauntic_jobs.stores.bullmq import commands as scripts
from mauntic_jobs.stores.bullmq.commands import ScriptCall, Taken

_BASE, _TOKEN = "{bench}:delivery:send-email", "bench"
_ORGANIZATIONS, _LONGEST_BY_SHORTEST = 100, 10_000
_MANY_AT_ONCE = 2_000
# So many messages after the queue is sorted show the shares.
_JUDGED = 20_000


def main() -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000, help="on the queue (default: 1000000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    given = parser.parse_args()
    with throwaway() as servers, closing(redis.Redis.from_url(servers.redis_url, protocol=2)) as client:
        queue = _Queue(client)
        say(f"adding {given.messages:,} messages")
        queue.fill(given.messages)
        figures = {"machine": machine(servers.database_url), "messages": given.messages, **_measured(client, queue)}
    for name, value in figures.items():
        print(f"{name}: {value}", flush=True)
    store(given.json, figures)


class _Queue:
    """A BullMQ queue with messages of many organizations."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._scripts: dict[str, Any] = {}
        self.lengths: dict[UUID, int] = {}

    def fill(self, messages: int) -> None:
        """Add messages: the organizations have a geometric series of them, the one with the most comes first."""
        step = _LONGEST_BY_SHORTEST ** (1 / (_ORGANIZATIONS - 1))
        sizes = [step**-place for place in range(_ORGANIZATIONS)]
        unit = messages / sum(sizes)
        self.lengths = {uuid4(): max(1, round(size * unit)) for size in sizes}
        pipeline = self._client.pipeline(transaction=False)
        for organization, length in self.lengths.items():
            for number in range(length):
                self._add(pipeline, organization, number)
                if number % _MANY_AT_ONCE == 0:
                    pipeline.execute()
        pipeline.execute()

    def add(self, organization: UUID, number: int) -> None:
        """Add one message behind all others."""
        self._add(self._client, organization, number)

    def _add(self, to: Any, organization: UUID, number: int) -> None:
        job = f"{organization.hex}-{number}"
        data = json.dumps({"deliveryId": job, "organizationId": str(organization)}, separators=(",", ":"))
        made = int(time.time() * 1000)
        to.hset(f"{_BASE}:{job}", mapping={"name": "send-email", "data": data, "opts": "{}", "timestamp": made})
        to.lpush(f"{_BASE}:wait", job)

    def take(self) -> Taken | None:
        """Take the job whose turn it is."""
        return scripts.taken(self._run(scripts.take(_BASE, _TOKEN, int(time.time() * 1000))))

    def finish(self, job: str) -> Taken | None:
        """Complete a job, and take the next one."""
        call = scripts.finish(
            *(_BASE, _TOKEN, job, int(time.time() * 1000)),
            failed=False,
            value="1",
            keep={"count": 0},
            attempts=3,
            fetch_next=True,
        )
        return scripts.taken(self._run(call))

    def unsorted(self) -> int:
        """Return how many messages are in no lane yet."""
        return int(self._client.llen(f"{_BASE}:wait"))

    def _run(self, call: ScriptCall) -> Any:
        if call.script not in self._scripts:
            self._scripts[call.script] = self._client.register_script(consumer_script(call.script))
        return self._scripts[call.script](call.keys, [*call.arguments, TAKING.get(call.script, 0), f"{_BASE}:"])


def _measured(client: redis.Redis, queue: _Queue) -> dict[str, Any]:
    began, cpu, memory = time.monotonic(), _cpu(client), _memory(client)
    taken, served, waits, at_work = Counter[str](), Counter[str](), list[float](), _work(queue)
    sorted_after, sorting_cpu, sorted_memory = 0.0, 0.0, 0.0
    while sum(served.values()) < _JUDGED:
        organization, wait = next(at_work)
        if wait is not None:
            waits.append(wait)
        else:
            (taken if not sorted_after else served)[organization] += 1
        if not sorted_after and queue.unsorted() <= 1:
            sorted_after = time.monotonic() - began
            say(f"sorted after {sorted_after:.1f} s")
            sorting_cpu, sorted_memory = _cpu(client) - cpu, _memory(client)
    # Those that had messages left at the end could have had more.
    left = [each.hex for each, length in queue.lengths.items() if length > served[each.hex] + taken[each.hex]]
    shares = [served[each] for each in left]
    return {
        "sorted after, seconds": round(sorted_after, 1),
        "Redis's CPU meanwhile, seconds": round(sorting_cpu, 1),
        "memory, of that before": round(sorted_memory / memory, 3),
        "wait of a small organization, seconds: median": round(statistics.median(waits), 4),
        "wait of a small organization, seconds: longest": round(max(waits), 4),
        "organizations with messages left": len(left),
        "Jain's index of their shares": round(sum(shares) ** 2 / (len(shares) * sum(each**2 for each in shares)), 4),
    }


def _work(queue: _Queue) -> Iterator[tuple[str, float | None]]:
    """Work on the queue; yield of each job its organization and, for those of the small one, how long it waited."""
    small, number, added, is_served = uuid4(), 0, 0.0, True
    taken = queue.take()
    while taken is not None:
        organization = taken.id.partition("-")[0]
        is_small = organization == small.hex
        is_served = is_served or is_small
        yield organization, time.monotonic() - added if is_small else None
        if is_served and time.monotonic() - added > 1.0:
            number, added, is_served = number + 1, time.monotonic(), False
            queue.add(small, number)
        taken = queue.finish(taken.id)


def _cpu(client: redis.Redis) -> float:
    found: Any = client.info("cpu")
    return float(found["used_cpu_user"] + found["used_cpu_sys"])


def _memory(client: redis.Redis) -> float:
    found: Any = client.info("memory")
    return float(found["used_memory"])


if __name__ == "__main__":
    main()
