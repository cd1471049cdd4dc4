"""Process that claims deliveries in the ledger and records them as sent, as `deliver` does, with no work in between.

It says when it is connected, begins at a line on stdin, and prints when it began and ended.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from uuid import uuid4

from mauntic_jobs.delivery.ledger.ledger import Ledger
from mauntic_jobs.delivery.ledger.records import Claim, Result, State
from mauntic_jobs.delivery.payload import Message
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.event_loop import new_event_loop
from mauntic_jobs.stores.postgres.async_link import PostgresLink

_PROVIDER, _PROVIDER_NAME = uuid4(), "custom_smtp smtp.example.com"


async def _main(count: int, concurrency: int) -> None:
    settings = Settings(database_url=os.environ["DATABASE_URL"])
    claims, records = PostgresLink(settings), PostgresLink(settings)
    ledger = Ledger(claims, records, record_activity=False)
    await asyncio.gather(*(link.rows(b"SELECT 1", {}) for link in (claims, records)))
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.time()
    numbers = iter(range(count))
    await asyncio.gather(*(_work(ledger, numbers) for _ in range(concurrency)))
    print(began, time.time(), flush=True)
    await asyncio.gather(claims.close(), records.close())


async def _work(ledger: Ledger, numbers: Iterator[int]) -> None:
    organization = uuid4()
    for _ in numbers:
        message = Message(organization_id=organization, delivery_id=uuid4().hex)
        asked = Claim(
            message, "email", message.key, "someone@example.com", None, _PROVIDER, _PROVIDER_NAME,
            f"<{message.key}@example.com>", ready=True,
        )  # fmt: skip
        fence = (await ledger.claim(asked)).fence
        attempts = [{"provider": "custom_smtp", "at": "2026-01-01T00:00:00Z", "outcome": "sent", "seconds": 0.1}]
        sent = Result(message, fence, State.SENT, provider_id=_PROVIDER, provider=_PROVIDER_NAME, attempts=attempts)
        if not (await ledger.record(sent)).fresh:
            raise RuntimeError("a result does not count")


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_main(int(os.environ["COUNT"]), int(os.environ["CONCURRENCY"])))
