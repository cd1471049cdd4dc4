"""`deliver` over each provider's API, against a local fake of it, and what of the cost is the exchange's.

The fakes are a process of their own. Of each provider these ways are measured: `deliver`, from the queue to the ledger;
`exchange`, the adapter alone; `client`, the HTTP client alone, with the same request; and with `--node`, a Node engine
that does for each message what the replaced one did, with the vendor's own SDK.
"""

import argparse
import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import uvloop
from psycopg.types.json import Jsonb

from bench import _node_sdks as node_sdks
from bench._common import BENCH, connect, machine, say, spread, statements
from bench._deliver_rig import install_node_peer
from bench._provider_messages import PROVIDERS
from bench._results import store
from mauntic_jobs.delivery.process.wiring import DeliveryPlan
from mauntic_jobs.delivery.process.worker_process import WorkerProcess
from mauntic_jobs.delivery.sending.outcome import Outcome, Verdict
from mauntic_jobs.delivery.sending.providers.config import ProviderConfig
from mauntic_jobs.delivery.sending.providers.http import HttpClient, HttpRequest, Progress
from mauntic_jobs.delivery.sending.providers.registry import factories
from mauntic_jobs.embedded.servers import throwaway
from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.migrations.upgrade import upgrade
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.bullmq.enqueue import QueueJob, add_jobs
from mauntic_jobs.stores.postgres import session as postgres
from mauntic_jobs.stores.redis.client import open_redis

_DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "shared_buffers": "512MB"}
_LOOK_SECONDS = 0.005


class _Spent(NamedTuple):
    """What so many messages took: seconds by the clock, and of this process's CPU."""

    messages: int
    seconds: float
    cpu: float


class _Now:
    """A moment, by the clock and by the CPU."""

    def __init__(self) -> None:
        self._clock, self._cpu = time.perf_counter(), time.process_time()

    def spent(self, messages: int) -> _Spent:
        """Return what so many messages have taken since."""
        return _Spent(messages, time.perf_counter() - self._clock, time.process_time() - self._cpu)


_WAYS = ("deliver", "exchange", "client")


def main() -> None:
    """Measure, and print what came out."""
    given = _arguments()
    if given.node:
        install_node_peer()
    with throwaway(postgres_settings=_DURABLE) as servers:
        settings = Settings(database_url=servers.database_url, redis_url=servers.redis_url)
        with postgres.connect(settings) as session:
            create_platform(session)
        upgrade(settings, lambda _: None)
        figures: dict[str, Any] = {"machine": machine(servers.database_url), "results": []}
        for latency in given.latency:
            with _fakes(latency) as url:
                for name in given.providers:
                    for concurrency in given.concurrency:
                        result = _measured(settings, url, name, latency, concurrency, given)
                        figures["results"].append(result)
                        print(_line(result), flush=True)
    store(given.json, figures)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=3000, help="of each measurement, at most (default: 3000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each measurement (default: 3)")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[3, 5, 10, 50], help="default: 3 5 10 50")
    parser.add_argument("--latency", type=int, nargs="+", default=[0, 50], help="milliseconds (default: 0 50)")
    parser.add_argument("--providers", nargs="+", choices=list(PROVIDERS), default=list(PROVIDERS))
    parser.add_argument("--node", action="store_true", help="measure a Node engine as well; needs Node and npm")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    return parser.parse_args()


@contextmanager
def _fakes(latency: int) -> Iterator[str]:
    command = [sys.executable, str(BENCH / "_fake_apis.py"), "--milliseconds", str(latency)]
    # They end with their input, and so with this process.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101 - it is piped
        assert process.stdin is not None  # noqa: S101 - it is piped
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.stdin.close()


def _measured(
    settings: Settings, url: str, name: str, latency: int, concurrency: int, given: argparse.Namespace
) -> dict[str, Any]:
    """Return the rates of all ways, taking turns, and the CPU time of this process for each message."""
    messages = min(given.messages, concurrency * 2000 // latency) if latency else given.messages
    own = settings.model_copy(update={"provider_urls": {name: url, "google_token": f"{url}/token"}})
    ways: dict[str, Callable[[], _Spent]] = {
        "deliver": lambda: _deliver(own, name, concurrency, messages),
        "exchange": lambda: _exchange(own, name, concurrency, messages, alone=False),
        "client": lambda: _exchange(own, name, concurrency, messages, alone=True),
    }
    if given.node and name in node_sdks.PROVIDERS:
        ways["node"] = lambda: _node(own, url, name, concurrency, messages)
    samples: dict[str, list[_Spent]] = {way: [] for way in ways}
    for number in range(given.rounds):
        say(f"{name}, {latency} ms, concurrency {concurrency}, round {number + 1} of {given.rounds}")
        for way, measure in ways.items():
            samples[way].append(measure())
    return {
        "provider": name,
        "latency_ms": latency,
        "concurrency": concurrency,
        "messages": messages,
        "rates": {way: spread([each.messages / each.seconds for each in samples[way]]) for way in ways},
        "cpu_ms_per_message": {way: spread([each.cpu * 1000 / each.messages for each in samples[way]]) for way in ways},
        **({"node": _node_takes(samples["deliver"], samples["node"])} if "node" in ways else {}),
    }


def _node_takes(ours: list[_Spent], theirs: list[_Spent]) -> dict[str, Any]:
    """Return how many times as much the Node engine takes: of the time, and of the CPU."""
    rounds = list(zip(ours, theirs, strict=True))
    return {
        "time": spread([our.messages / our.seconds / (their.messages / their.seconds) for our, their in rounds]),
        "cpu": spread([their.cpu / their.messages / (our.cpu / our.messages) for our, their in rounds]),
    }


def _deliver(settings: Settings, name: str, concurrency: int, messages: int) -> _Spent:
    """Let an engine deliver the messages of a queue."""
    provider = PROVIDERS[name]
    settings = settings.model_copy(update={"queue_prefix": f"bench-{uuid4().hex}"})
    _enqueue(settings, name, messages)
    plan = DeliveryPlan({provider.channel: concurrency}, timedelta(days=1), timedelta(seconds=5), until_empty=True)
    engine = WorkerProcess(settings, plan, say, lambda *problem: say(str(problem)))

    return _run(_watched(engine, engine.stats[provider.channel].settled, concurrency, messages))


def _node(settings: Settings, url: str, name: str, concurrency: int, messages: int) -> _Spent:
    """Let a Node engine send the messages of a queue."""
    settings = settings.model_copy(update={"queue_prefix": f"bench-{uuid4().hex}"})
    _enqueue(settings, name, messages)
    figures = node_sdks.run(settings, url, PROVIDERS[name].channel, concurrency, messages)
    return _Spent(figures["messages"], figures["seconds"], figures["cpu_seconds"])


def _enqueue(settings: Settings, name: str, messages: int) -> None:
    """Give an organization the provider, and put its messages on the queue."""
    provider, organization = PROVIDERS[name], uuid4()
    assert settings.database_url is not None  # noqa: S101 - it is set above
    with connect(settings.database_url.get_secret_value()) as connection:
        connection.execute(
            statements("providers")["provider"],
            {"org": organization, "channel": provider.channel, "type": name, "config": Jsonb(dict(provider.config))},
        )
    queue = f"delivery:send-{provider.channel}"
    own = {"organizationId": str(organization), **provider.message}
    if name in node_sdks.PROVIDERS:
        # The Node engine writes an event for each.
        own |= {"contactId": str(uuid4())}
    jobs = [QueueJob(queue, f"job-{uuid4().hex}", "send", {"deliveryId": str(uuid4()), **own}) for _ in range(messages)]
    redis = open_redis(settings)
    try:
        add_jobs(redis, settings.queue_prefix, jobs, int(time.time() * 1000))
    finally:
        redis.close()


async def _watched(engine: WorkerProcess, settled: Counter[str], concurrency: int, messages: int) -> _Spent:
    """Measure an engine from when its connections are open to the last message."""
    running = asyncio.ensure_future(engine.run())
    while settled["sent"] < concurrency and not running.done():
        await asyncio.wait({running}, timeout=_LOOK_SECONDS)
    began, first = _Now(), settled["sent"]
    while settled["sent"] < messages and not running.done():
        await asyncio.wait({running}, timeout=_LOOK_SECONDS)
    spent = began.spent(messages - first)
    await running
    if settled["sent"] != messages:
        raise RuntimeError(f"not all messages were sent: {settled}")
    return spent


def _exchange(settings: Settings, name: str, concurrency: int, messages: int, *, alone: bool) -> _Spent:
    """Let the adapter send the messages, or the HTTP client alone."""
    provider = PROVIDERS[name]

    async def run() -> _Spent:
        client = HttpClient(timeout=30)
        wire = await client.wire()
        config = ProviderConfig(UUID(int=1), name, provider.config)
        adapter: Any = factories(settings, client)[provider.channel, name](config)
        request: HttpRequest = await adapter._request(provider.content)  # noqa: SLF001 - the same as it sends

        async def send() -> None:
            outcome: Outcome = await adapter.send(provider.content)
            if outcome.verdict is not Verdict.ACCEPTED:
                raise RuntimeError(outcome.reason)

        async def post() -> None:
            await wire.exchange(request, Progress())

        deed = post if alone else send
        # The connections are opened first.
        await asyncio.gather(*(_worker(deed, 1) for _ in range(concurrency)))
        began = _Now()
        await asyncio.gather(*(_worker(deed, messages // concurrency) for _ in range(concurrency)))
        spent = began.spent(messages)
        await client.close()
        return spent

    return _run(run())


async def _worker(deed: Callable[[], Awaitable[None]], times: int) -> None:
    for _ in range(times):
        await deed()


def _run(coroutine: Coroutine[Any, Any, _Spent]) -> _Spent:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


def _line(result: dict[str, Any]) -> str:
    ways = ", ".join(
        f"{way} {rate['median']:,.0f}/s ({rate['min']:,.0f}-{rate['max']:,.0f}),"
        f" {result['cpu_ms_per_message'][way]['median']:.2f} ms CPU"
        for way, rate in result["rates"].items()
    )
    node = result.get("node")
    times = (
        f"; Node takes {node['time']['median']:.1f} times the time, {node['cpu']['median']:.1f} the CPU" if node else ""
    )
    return f"{result['provider']}, {result['latency_ms']} ms, concurrency {result['concurrency']}: {ways}{times}"


if __name__ == "__main__":
    began = time.perf_counter()
    main()
    say(f"took {time.perf_counter() - began:.0f} s")
