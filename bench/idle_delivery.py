"""How long a message takes from an idle queue to its provider, by processes that have had nothing to do for a while."""

import argparse
import asyncio
import json
import random
import statistics
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

from bench._common import connect, say
from bench._results import store
from mauntic_jobs.delivery.process.wiring import DeliveryPlan
from mauntic_jobs.delivery.process.worker_process import WorkerProcess
from mauntic_jobs.embedded.servers import throwaway
from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.migrations.upgrade import upgrade
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.bullmq.enqueue import QueueJob, add_jobs
from mauntic_jobs.stores.postgres import session as postgres
from mauntic_jobs.stores.postgres.connection import database_url
from mauntic_jobs.stores.redis.client import open_redis

_DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
_PROVIDER = """
INSERT INTO delivery.provider_configs (organization_id, channel, provider_type, config)
VALUES (%(organization)s, 'email', 'custom_smtp', %(config)s)
"""
# When the content of a delivery was complete, by the delivery's id, which is the subject.
_arrived: dict[str, "asyncio.Future[float]"] = {}


def main() -> None:
    """Measure, and print what came out."""
    given = _arguments()
    with throwaway(postgres_settings=_DURABLE) as servers:
        settings = Settings(
            database_url=servers.database_url, redis_url=servers.redis_url, allowed_networks="127.0.0.1"
        )
        with postgres.connect(settings) as session:
            create_platform(session)
        upgrade(settings, lambda _: None)
        took = sorted(asyncio.run(_measured(settings, given)))
    at = {share: took[min(int(len(took) * share), len(took) - 1)] for share in (0.5, 0.9, 0.99)}
    shares = ", ".join(f"p{share * 100:g} {seconds * 1000:.1f} ms" for share, seconds in at.items())
    print(f"{len(took)} messages, each after {given.idle:g} s of idleness: {shares}, longest {took[-1] * 1000:.1f} ms")
    print(f"mean {statistics.mean(took) * 1000:.1f} ms")
    store(
        given.json, {"idle_seconds": given.idle, "queues": given.queues, "milliseconds": [each * 1000 for each in took]}
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queues", type=int, default=16, help="queues, each with a consumer (default: 16)")
    parser.add_argument("--rounds", type=int, default=7, help="messages of each queue (default: 7)")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds before each message (default: 60)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    return parser.parse_args()


async def _measured(settings: Settings, given: argparse.Namespace) -> list[float]:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    organization = uuid4()
    config = {"host": "127.0.0.1", "port": server.sockets[0].getsockname()[1], "from": "news@acme.test"}
    with connect(database_url(settings)) as connection:
        connection.execute(_PROVIDER, {"organization": organization, "config": json.dumps(config)})
    plan = DeliveryPlan({"email": 5}, timedelta(days=2), timedelta(seconds=5))
    own = [settings.model_copy(update={"queue_prefix": f"idle-{uuid4().hex}"}) for _ in range(given.queues)]
    engines = [WorkerProcess(each, plan, say, lambda *_: None) for each in own]
    running = [asyncio.create_task(each.run()) for each in engines]
    took: list[float] = []
    for number in range(given.rounds):
        await asyncio.sleep(given.idle)
        took += await asyncio.gather(*(_one(each, organization) for each in own))
        say(f"round {number + 1} of {given.rounds}")
    for engine in engines:
        engine.stop()
    await asyncio.gather(*running)
    server.close()
    return took


async def _one(settings: Settings, organization: UUID) -> float:
    # Apart from each other, as if each were alone.
    await asyncio.sleep(random.uniform(0, 5))  # noqa: S311 - to spread
    delivery = uuid4().hex
    data = {"deliveryId": delivery, "organizationId": str(organization), "emailAddress": "ann@example.com"}
    job = QueueJob("delivery:send-email", f"{delivery}x", "send-email", {**data, "subject": delivery, "text": "Hello"})

    def add() -> float:
        with closing(open_redis(settings)) as redis:
            redis.command("PING")
            began = time.perf_counter()
            add_jobs(redis, settings.queue_prefix, [job], int(datetime.now(UTC).timestamp() * 1000))
            return began

    _arrived[delivery] = asyncio.get_running_loop().create_future()
    began = await asyncio.to_thread(add)
    return await _arrived[delivery] - began


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept every message."""
    writer.write(b"220 ready\r\n")
    while line := await reader.readline():
        if line.startswith(b"DATA"):
            writer.write(b"354 go ahead\r\n")
            content = await reader.readuntil(b"\r\n.\r\n")
            _arrived[content.partition(b"Subject: ")[2][:32].decode()].set_result(time.perf_counter())
        writer.write(b"250 ok\r\n")
    writer.close()


if __name__ == "__main__":
    main()
