"""Share of a provider's rate that is sent, and the wait of a small organization beside a large one.

The provider is an SMTP server in a process of its own that takes so many messages a second, a second's worth at once,
and answers the others with SES's 454. Nothing is configured: the rate is learned. Figures are from the second half of
each measurement. Processes deliver as they do in production, with 5 messages at once each.
"""

import argparse
import asyncio
import json
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from bench._common import connect, machine, say
from mauntic_jobs.delivery.process.wiring import DeliveryPlan
from mauntic_jobs.delivery.process.worker_process import WorkerProcess
from mauntic_jobs.embedded.servers import Servers, throwaway
from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.migrations.upgrade import upgrade
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.bullmq.enqueue import QueueJob, add_jobs
from mauntic_jobs.stores.postgres import session as postgres
from mauntic_jobs.stores.redis.client import open_redis

_PROVIDER = b"""
INSERT INTO delivery.provider_configs (organization_id, channel, provider_type, config)
VALUES (%(organization)s, 'email', 'custom_smtp', %(config)s::jsonb)
"""
_WAIT = b"""
SELECT count(*) AS sent, extract(EPOCH FROM max(updated_at) - %(since)s)::float8 AS seconds
FROM mauntic_jobs.deliveries WHERE organization_id = %(organization)s AND state = 'sent'
"""
_SMALL = 20


def main() -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=int, nargs="+", default=[1, 14, 200], help="default: 1 14 200")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4], help="default: 1 4")
    parser.add_argument("--seconds", type=int, default=60, help="of each measurement (default: 60)")
    parser.add_argument(
        "--beside", type=int, default=30_000, help="messages of the large organization (default: 30000)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    given = parser.parse_args()
    with throwaway() as servers:
        settings = Settings(database_url=servers.database_url)
        with postgres.connect(settings) as session:
            create_platform(session)
        upgrade(settings, lambda _: None)
        figures: dict[str, Any] = {"machine": machine(servers.database_url), "rates": [], "turns": {}}
        for rate in given.rates:
            for processes in given.processes:
                say(f"{rate}/s, {processes} processes")
                found = _goodput(servers, rate, processes, given.seconds)
                figures["rates"].append({"rate": rate, "processes": processes, **found})
                shares = f"{found['sent']:.1%} of it sent, {found['refused']:.2%} of the messages refused"
                print(f"{rate}/s, {processes} processes: {shares}", flush=True)
        say("a small organization beside a large one")
        figures["turns"] = {"beside": given.beside, "seconds": _wait(servers, given.beside)}
        print(f"{_SMALL} messages behind {given.beside:,}: all sent after {figures['turns']['seconds']:.2f} s")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")


def _goodput(servers: Servers, rate: int, processes: int, seconds: int) -> dict[str, float]:
    """Return the share of the rate that is sent in the second half, and the share of all messages that are refused."""
    settings, organization = _settings(servers), uuid4()
    _fill(settings, organization, rate * seconds * 2)
    with _provider(rate) as (port, ask), connect(servers.database_url) as connection:
        _configure(connection, organization, port)
        with _delivering(settings, processes):
            time.sleep(seconds / 2)
            before = ask()
            time.sleep(seconds / 2)
            after = ask()
    taken, refused = (after[each] - before[each] for each in ("taken", "refused"))
    return {"sent": taken / (rate * seconds / 2), "refused": refused / max(taken + refused, 1)}


def _wait(servers: Servers, beside: int) -> float:
    """Return after how many seconds a small organization's messages are sent, which are added behind a large one's."""
    settings, large, small = _settings(servers), uuid4(), uuid4()
    with _provider(1_000_000) as (port, _), connect(servers.database_url) as connection:
        for organization in (large, small):
            _configure(connection, organization, port)
        _fill(settings, large, beside)
        with _delivering(settings, 1):
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


def _configure(connection: Any, organization: UUID, port: int) -> None:
    config = json.dumps({"host": "127.0.0.1", "port": port, "from": "news@acme.test"})
    connection.execute(_PROVIDER, {"organization": organization, "config": config})


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
def _delivering(settings: Settings, processes: int) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    running = [context.Process(target=_deliver, args=(settings,), daemon=True) for _ in range(processes)]
    for process in running:
        process.start()
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.join()


def _deliver(settings: Settings) -> None:
    plan = DeliveryPlan({"email": 5}, timedelta(days=2), timedelta(seconds=1))
    asyncio.run(WorkerProcess(settings, plan, lambda _: None, lambda *_: None).run())


@contextmanager
def _provider(rate: int) -> Iterator[tuple[int, Any]]:
    """Run the SMTP server in a process of its own; yield its port, and what asks it how many it took and refused."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(rate, there), daemon=True)
    process.start()

    def ask() -> dict[str, int]:
        here.send("?")
        counts: dict[str, int] = here.recv()
        return counts

    try:
        yield here.recv(), ask
    finally:
        process.kill()
        process.join()


class _Bucket:
    """Takes so many messages a second, a second's worth at once."""

    def __init__(self, rate: int) -> None:
        self.counts = {"taken": 0, "refused": 0}
        self._rate, self._tokens, self._at = rate, float(rate), time.monotonic()

    def take(self) -> bool:
        """Return whether a message is taken now."""
        now = time.monotonic()
        self._tokens, self._at = min(self._rate, self._tokens + (now - self._at) * self._rate), now
        is_taken = self._tokens >= 1
        self._tokens -= is_taken
        self.counts["taken" if is_taken else "refused"] += 1
        return is_taken


def _serve(rate: int, pipe: Connection) -> None:
    bucket = _Bucket(rate)

    def answer() -> None:
        pipe.recv()
        pipe.send(bucket.counts)

    async def run() -> None:
        server = await asyncio.start_server(partial(_smtp, bucket), "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        asyncio.get_running_loop().add_reader(pipe.fileno(), answer)
        await asyncio.Event().wait()

    asyncio.run(run())


async def _smtp(bucket: _Bucket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 bench\r\n")
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        while line := await reader.readline():
            answer = b"250 ok\r\n"
            if line[:4].upper() == b"DATA":
                writer.write(b"354 go on\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                await asyncio.sleep(0.05)
                if not bucket.take():
                    answer = b"454 Throttling failure: Maximum sending rate exceeded.\r\n"
            writer.write(answer)
    writer.close()


if __name__ == "__main__":
    main()
