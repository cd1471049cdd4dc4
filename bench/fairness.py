"""What an organization keeps of its throughput beside another whose provider is slow, hangs or fails.

Both have as many messages on the queue, in turn. The healthy provider takes a message after 20 ms. In one process, with
the whole pipeline; each round measures the organization alone, and then beside each kind of trouble.
"""

import argparse
import asyncio
import json
import multiprocessing
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from bench._common import connect, machine, say, spread
from bench._results import store
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

# Seconds before the reply to a message, and the reply to its recipient; without one the connection is closed.
_PROVIDERS = {
    "healthy": (0.02, b"250 ok\r\n"),
    "slow": (3.0, b"250 ok\r\n"),
    "hanging": (3600.0, b"250 ok\r\n"),
    "failing": (0.0, b""),
}
_SENT = b"""
SELECT count(*) AS sent, extract(EPOCH FROM max(updated_at) - min(created_at))::float8 AS seconds
FROM mauntic_jobs.deliveries WHERE organization_id = %(organization)s AND state = 'sent'
"""
_PROVIDER = b"""
INSERT INTO delivery.provider_configs (organization_id, channel, provider_type, config)
VALUES (%(organization)s, 'email', 'custom_smtp', %(config)s::jsonb)
"""


def main() -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=2500, help="messages of each organization (default: 2500)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each measurement (default: 3)")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[3, 5, 10], help="default: 3 5 10")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    given = parser.parse_args()
    with throwaway() as servers, _providers() as ports:
        settings = Settings(database_url=servers.database_url)
        with postgres.connect(settings) as session:
            create_platform(session)
        upgrade(settings, lambda _: None)
        figures: dict[str, Any] = {"machine": machine(servers.database_url), "results": []}
        for concurrency in given.concurrency:
            rates: dict[str, list[float]] = {name: [] for name in ("healthy", *list(_PROVIDERS)[1:])}
            for number in range(given.rounds):
                for trouble, own in rates.items():
                    say(f"concurrency {concurrency}, {trouble}, round {number + 1} of {given.rounds}")
                    beside = None if trouble == "healthy" else trouble
                    own.append(asyncio.run(_rate(servers, ports, beside, concurrency, given.messages)))
            alone = rates.pop("healthy")
            shares = {name: spread([b / a for a, b in zip(alone, own, strict=True)]) for name, own in rates.items()}
            figures["results"].append({"concurrency": concurrency, "alone": spread(alone), "shares": shares})
            print(_line(figures["results"][-1]), flush=True)
    store(given.json, figures)


async def _rate(servers: Servers, ports: dict[str, int], trouble: str | None, concurrency: int, messages: int) -> float:
    """Return how many messages a second the healthy organization sends."""
    settings = Settings(
        database_url=servers.database_url,
        redis_url=servers.redis_url,
        queue_prefix=f"bench-{uuid4().hex}",
        allowed_networks="127.0.0.0/8",
    )
    organizations = {name: uuid4() for name in ("healthy", trouble) if name}
    with connect(servers.database_url) as connection:
        for name, organization in organizations.items():
            config = json.dumps({"host": "127.0.0.1", "port": ports[name], "from": "news@acme.test"})
            connection.execute(_PROVIDER, {"organization": organization, "config": config})
        _fill(settings, list(organizations.values()), messages)
        plan = DeliveryPlan({"email": concurrency}, timedelta(days=2), timedelta(seconds=0.1))
        engine = WorkerProcess(settings, plan, lambda _: None, lambda *_: None)
        running = asyncio.ensure_future(engine.run())
        while True:
            await asyncio.sleep(0.2)
            row = connection.execute(_SENT, {"organization": organizations["healthy"]}).fetchone()
            if running.done() or (row and row["sent"] == messages):
                break
    engine.stop()
    await running
    return float(messages / row["seconds"]) if row else 0.0


def _fill(settings: Settings, organizations: list[UUID], messages: int) -> None:
    jobs = [
        QueueJob(
            "delivery:send-email",
            f"{organization.hex}-{number}",
            "send-email",
            {
                "deliveryId": f"{organization.hex}-{number}",
                "organizationId": str(organization),
                "emailAddress": f"contact-{number}@example.com",
                "subject": "Hello",
                "html": "<p>Hello</p>" * 100,
            },
        )
        for number in range(messages)
        for organization in organizations
    ]
    with closing(open_redis(settings)) as redis:
        add_jobs(redis, settings.queue_prefix, jobs, int(datetime.now(UTC).timestamp() * 1000))


@contextmanager
def _providers() -> Iterator[dict[str, int]]:
    """Run the SMTP servers in a process of their own, and yield their ports."""
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(writer,), daemon=True)
    process.start()
    try:
        yield reader.recv()
    finally:
        process.kill()
        process.join()


def _serve(writer: Connection) -> None:
    end_with_parent()

    async def run() -> None:
        ports = {}
        for name, (seconds, reply) in _PROVIDERS.items():
            server = await asyncio.start_server(partial(_smtp, seconds, reply), "127.0.0.1", 0)
            ports[name] = server.sockets[0].getsockname()[1]
        writer.send(ports)
        await asyncio.Event().wait()

    asyncio.run(run())


async def _smtp(seconds: float, reply: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 bench\r\n")
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        while line := await reader.readline():
            word = line[:4].upper()
            if word == b"DATA":
                writer.write(b"354 go on\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                await asyncio.sleep(seconds)
            if word == b"RCPT" and not reply:
                break
            writer.write(reply if word == b"RCPT" else b"250 ok\r\n")
    writer.close()


def _line(result: dict[str, Any]) -> str:
    alone = result["alone"]
    shares = ", ".join(
        f"{name} {share['median']:.0%} ({share['min']:.0%}-{share['max']:.0%})"
        for name, share in result["shares"].items()
    )
    return f"concurrency {result['concurrency']}: alone {alone['median']:,.0f}/s; beside one that is {shares}"


if __name__ == "__main__":
    main()
