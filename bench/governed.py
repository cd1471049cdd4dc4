"""Share of a provider's rate that is sent, and the wait of a small organization beside a large one.

The provider is a process of its own that takes so many messages a second, a second's worth at once. Over SMTP it
answers the others with SES's 454 after DATA, or with --over with 421 or 452 at MAIL; an API answers 429 as its vendor
documents it. `deliver` learns the rate, or is told it by the configuration. With --node, Node's BullMQ sends to the
same server: told, with its limiter set to the rate, or with nothing but the pause after a refusal that its guide
advises. A measurement begins 30 seconds after the first message, and lasts for 100 messages at least: before, the rate
is learned. How long that takes is measured too. A process sends 5 messages at once, or twice what the rate takes. With
--at-once measurements run beside each other, but for those of a rate that keeps a core busy.
"""

import argparse
import asyncio
import json
import math
import multiprocessing
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from bench._common import connect, machine, say
from bench._deliver_rig import PEER, install_node_peer, program
from bench._limited_providers import APIS, KINDS, SECONDS_A_MESSAGE, limited_provider
from bench._provider_messages import PROVIDERS
from bench._results import store
from bench._slots import Slots
from mauntic_jobs.delivery.process.wiring import DeliveryPlan
from mauntic_jobs.delivery.process.worker_process import WorkerProcess
from mauntic_jobs.embedded.die_with_parent import end_with_parent
from mauntic_jobs.embedded.servers import Servers, throwaway
from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.migrations.upgrade import upgrade
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.bullmq.enqueue import QueueJob, add_jobs
from mauntic_jobs.stores.postgres import session as postgres
from mauntic_jobs.stores.redis.client import open_redis

_PROVIDER = b"""
INSERT INTO delivery.provider_configs (organization_id, channel, provider_type, config)
VALUES (%(organization)s, 'email', %(type)s, %(config)s::jsonb)
"""
_WAIT = b"""
SELECT count(*) AS sent, extract(EPOCH FROM max(updated_at) - %(since)s)::float8 AS seconds
FROM mauntic_jobs.deliveries WHERE organization_id = %(organization)s AND state = 'sent'
"""
_SMALL = 20
_AT_ONCE = 5
_LEARNING_SECONDS, _MIN_MESSAGES = 30, 100
# Nothing is measured beside a rate of this many messages a second.
_BUSY_RATE = 100
# A rate is learned once so much of it is sent, and so little refused, over so many messages or seconds at least.
_LEARNED_SENT, _LEARNED_REFUSED, _LEARNED_OVER = 0.9, 0.05, 10
# Ours with nothing configured and with the rate configured; Node's BullMQ with its limiter set to the rate, and with
# nothing but a pause after each refusal.
_OWN_WAYS = ("deliver, learning", "deliver, told")
_NODE_WAYS = ("BullMQ, told", "BullMQ, pausing")


def main() -> None:
    """Measure, and print what came out."""
    given = _arguments()
    if given.node:
        install_node_peer()
    with throwaway() as servers:
        settings = Settings(database_url=servers.database_url)
        with postgres.connect(settings) as session:
            create_platform(session)
        upgrade(settings, lambda _: None)
        figures: dict[str, Any] = {"machine": machine(servers.database_url), "rates": [], "turns": {}}
        cases: list[tuple[str, int, int]] = given.cases or list(product(given.over, given.rates, given.processes))
        slots = Slots(given.at_once)
        ways = [
            (case, way)
            for case, way in product(cases, _OWN_WAYS + _NODE_WAYS)
            if way in _OWN_WAYS or (given.node and case[0] not in APIS)
        ]
        with ThreadPoolExecutor(given.at_once) as pool:
            figures["rates"] = list(
                pool.map(lambda each: _measured(servers, slots, each[0], each[1], given.seconds), ways)
            )
        say("a small organization beside a large one")
        figures["turns"] = {"beside": given.beside, "seconds": _wait(servers, given.beside)}
        print(f"{_SMALL} messages behind {given.beside:,}: all sent after {figures['turns']['seconds']:.2f} s")
    store(given.json, figures)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=int, nargs="+", default=[1, 14, 200], help="default: 1 14 200")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4, 16], help="default: 1 4 16")
    parser.add_argument(
        "--seconds", type=int, default=60, help="of each measurement after 30 of learning (default: 60)"
    )
    parser.add_argument(
        "--beside", type=int, default=30_000, help="messages of the large organization (default: 30000)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    parser.add_argument("--over", choices=KINDS, nargs="+", default=["454"], help="how it refuses (default: 454)")
    parser.add_argument(
        "--cases", type=case_of, nargs="+", metavar="OVER:RATE:PROCESSES", help="only these cases, such as ses:1:16"
    )
    parser.add_argument(
        "--at-once", type=int, default=1, help="measure beside each other up to so many processes (default: 1)"
    )
    parser.add_argument("--node", action="store_true", help="over SMTP, measure Node's BullMQ as well")
    return parser.parse_args()


def case_of(text: str) -> tuple[str, int, int]:
    """Return how a provider refuses, its rate and the number of processes. Raises ValueError."""
    kind, rate, processes = text.split(":")
    if kind not in KINDS:
        raise ValueError(kind)
    return kind, int(rate), int(processes)


def _measured(servers: Servers, slots: Slots, case: tuple[str, int, int], way: str, seconds: int) -> dict[str, Any]:
    """Measure one way, print what came out, and return it."""
    kind, rate, processes = case
    name = f"{kind}, {rate}/s, {processes} processes, {way}"
    with slots.taken(processes, alone=rate >= _BUSY_RATE):
        say(name)
        found = _goodput(servers, kind, way, rate, processes, seconds)
    shares = f"{found['sent']:.1%} of it sent, {found['refused']:.2%} of the messages refused"
    print(f"{name}: {shares}, at most {found['peak']} a second, learned after {found['learned']} s", flush=True)
    return {"over": kind, "rate": rate, "processes": processes, "way": way, **found}


def _goodput(servers: Servers, kind: str, way: str, rate: int, processes: int, seconds: int) -> dict[str, float | None]:
    """Return the share of the rate that is sent once it is learned, that of all messages refused, and the peak."""
    settings, organization = _settings(servers), uuid4()
    at_once = max(_AT_ONCE, int(2 * rate * SECONDS_A_MESSAGE))
    window = max(seconds, math.ceil(_MIN_MESSAGES / rate))
    _fill(settings, organization, rate * (_LEARNING_SECONDS + window + 10) + 2 * rate)
    with limited_provider(kind, rate) as (port, ask), connect(servers.database_url) as connection:
        told = rate if way.endswith("told") else None
        _configure(connection, organization, kind, port, told)
        settings = settings.model_copy(update={"provider_urls": {kind: f"http://127.0.0.1:{port}"}})
        running = (
            _delivering(settings, processes, at_once)
            if way in _OWN_WAYS
            else _node_sending(settings, port, processes, at_once, told)
        )
        with running:
            while not ask().taken:
                time.sleep(0.1)
            began = ask().taken[0]
            time.sleep(began + _LEARNING_SECONDS + window - time.monotonic())
            counts = ask()
    first = began + _LEARNING_SECONDS
    taken, refused = ([at for at in times if first <= at < first + window] for times in (counts.taken, counts.refused))
    return {
        "sent": len(taken) / (rate * window),
        "refused": len(refused) / max(len(taken) + len(refused), 1),
        "peak": peak(taken),
        "learned": learned(counts.taken, counts.refused, rate),
    }


def learned(taken: list[float], refused: list[float], rate: int) -> float | None:
    """Return after how many seconds of its first message a rate was known, None for never."""
    if not taken:
        return None
    length = max(_LEARNED_OVER, _LEARNED_OVER / rate)
    for second in range(int(max(taken) - taken[0] - length) + 1):
        first = taken[0] + second
        sent, thrown = (sum(first <= at < first + length for at in times) for times in (taken, refused))
        if sent >= _LEARNED_SENT * rate * length and thrown <= _LEARNED_REFUSED * (sent + thrown):
            return float(second)
    return None


def peak(times: list[float]) -> int:
    """Return the most messages of any second, wherever it begins."""
    most = first = 0
    for last, time_ in enumerate(times):
        while times[first] <= time_ - 1:
            first += 1
        most = max(most, last - first + 1)
    return most


def _wait(servers: Servers, beside: int) -> float:
    """Return after how many seconds a small organization's messages are sent, which are added behind a large one's."""
    settings, large, small = _settings(servers), uuid4(), uuid4()
    with limited_provider("454", 1_000_000) as (port, _), connect(servers.database_url) as connection:
        for organization in (large, small):
            _configure(connection, organization, "454", port)
        _fill(settings, large, beside)
        with _delivering(settings, 1, _AT_ONCE):
            time.sleep(2)
            since = datetime.now(UTC)
            _fill(settings, small, _SMALL)
            while True:
                row = connection.execute(_WAIT, {"organization": small, "since": since}).fetchone()
                if row and row["sent"] == _SMALL:
                    return float(row["seconds"])
                time.sleep(0.05)


def _settings(servers: Servers) -> Settings:
    return Settings(
        database_url=servers.database_url,
        redis_url=servers.redis_url,
        queue_prefix=f"bench-{uuid4().hex}",
        allowed_networks="127.0.0.0/8",
    )


def _configure(connection: Any, organization: UUID, kind: str, port: int, rate: int | None = None) -> None:
    own = PROVIDERS[kind].config if kind in APIS else {"host": "127.0.0.1", "port": port, "from": "news@acme.test"}
    config = json.dumps({**own, "rateLimit": rate or 0})
    values = {"organization": organization, "type": kind if kind in APIS else "custom_smtp", "config": config}
    connection.execute(_PROVIDER, values)


def _fill(settings: Settings, organization: UUID, messages: int) -> None:
    jobs = [
        QueueJob("delivery:send-email", f"{organization.hex}-{number}", "send-email", _message(organization, number))
        for number in range(messages)
    ]
    with closing(open_redis(settings)) as redis:
        add_jobs(redis, settings.queue_prefix, jobs, int(datetime.now(UTC).timestamp() * 1000))


def _message(organization: UUID, number: int) -> dict[str, Any]:
    return {
        "deliveryId": f"{organization.hex}-{number}",
        "organizationId": str(organization),
        "emailAddress": f"contact-{number}@example.com",
        "subject": "Hello",
        "html": "<p>Hello</p>" * 100,
    }


@contextmanager
def _delivering(settings: Settings, processes: int, at_once: int) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    running = [context.Process(target=_deliver, args=(settings, at_once), daemon=True) for _ in range(processes)]
    for process in running:
        process.start()
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.join()


def _deliver(settings: Settings, at_once: int) -> None:
    end_with_parent()
    plan = DeliveryPlan({"email": at_once}, timedelta(days=2), timedelta(seconds=1))
    asyncio.run(WorkerProcess(settings, plan, lambda _: None, lambda *_: None).run())


@contextmanager
def _node_sending(settings: Settings, port: int, processes: int, at_once: int, limit: int | None) -> Iterator[None]:
    assert settings.redis_url is not None  # noqa: S101 - it is given
    environment = {
        **os.environ,
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "PREFIX": f"{settings.queue_prefix}:delivery",
        "QUEUE": "send-email",
        "CONCURRENCY": str(at_once),
        "SMTP_PORT": str(port),
        **({} if limit is None else {"RATE": str(limit)}),
    }
    command = [program("node"), "governed.mjs"]
    # Each ends with its standard input, which ends with this process.
    running = [subprocess.Popen(command, cwd=PEER, env=environment, stdin=subprocess.PIPE) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
