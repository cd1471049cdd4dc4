"""Measure what a message costs Postgres, from its claim to its result: bytes of log, space in the ledger, CPU.

Each message is claimed and recorded as sent, in batches, through the statements that `deliver` uses. The log is read
with the extension pg_walinspect, which Postgres 16 and later can count by table and index.
"""

import argparse
import base64
import hashlib
import json
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg

from bench._common import connect, machine, say, statements
from bench._processes import cpu_seconds
from bench._results import store
from mauntic_jobs.delivery.ledger.records import Claim, Result, State, claim_json, result_json
from mauntic_jobs.delivery.payload import Message
from mauntic_jobs.embedded.servers import throwaway
from mauntic_jobs.migrations.platform import create_platform
from mauntic_jobs.migrations.upgrade import upgrade
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.sql import statements as product
from mauntic_jobs.stores.postgres import session as postgres

_SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "8GB", "checkpoint_timeout": "30min", "autovacuum": "on"}
_CONTACTS = 1000
_CAMPAIGN_SIZE = 10_000
_PROVIDER = uuid4()


def main() -> None:
    """Measure, and print what came out."""
    given = _arguments()
    figures: dict[str, Any] = {"messages": given.messages, "results": []}
    for payload in given.payload:
        for batch in given.batch:
            with throwaway(postgres_settings=_SETTINGS) as servers:
                _migrate(servers.database_url)
                figures["machine"] = machine(servers.database_url)
                say(f"payload {payload} B, {batch} at once")
                result = _measured(servers.database_url, servers.pid, given.messages, batch, payload)
            figures["results"].append(result)
            print(_text(result), flush=True)
    store(given.json, figures)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000, help="messages of each measurement (default: 100000)")
    parser.add_argument("--batch", type=int, nargs="+", default=[2, 25], help="messages a call (default: 2 25)")
    parser.add_argument("--payload", type=int, nargs="+", default=[300, 6000], help="bytes (default: 300 6000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    return parser.parse_args()


def _migrate(url: str) -> None:
    settings = Settings(database_url=url)
    with postgres.connect(settings) as session:
        create_platform(session)
    upgrade(settings, lambda _: None)


def _measured(url: str, server: int, messages: int, batch: int, payload: int) -> dict[str, Any]:
    organization, contacts = uuid4(), [uuid4() for _ in range(_CONTACTS)]
    own = statements("ledger")
    with connect(url) as inspector, psycopg.connect(url, autocommit=True) as connection:
        inspector.execute(own["extension"])
        inspector.execute(own["contacts"], {"org": organization, "ids": contacts})
        inspector.execute("VACUUM ANALYZE")
        inspector.execute("CHECKPOINT")
        seconds = {"claim": 0.0, "record": 0.0}
        (start,) = inspector.execute(own["position"])
        cpu, began = cpu_seconds(server, "postgres"), time.perf_counter()
        for first in range(0, messages, batch):
            if first % _CAMPAIGN_SIZE < batch:
                job = uuid4()
                parameters = {"job": job, "org": organization, "messages": _CAMPAIGN_SIZE}
                inspector.execute(statements("deliver")["job"], parameters)
            some = [_message(organization, job, contacts, first + n) for n in range(min(batch, messages - first))]
            _send(connection, some, _content(payload, first), seconds)
        wall, cpu = time.perf_counter() - began, cpu_seconds(server, "postgres") - cpu
        log = {row["relation"]: row["bytes"] / messages for row in inspector.execute(own["log"], start)}
        (total,) = inspector.execute(own["total"], start)
        time.sleep(1)  # the statistics of the other connection arrive late
        (table,) = inspector.execute(own["table"])
        indexes = {row["index"]: row["bytes"] / messages for row in inspector.execute(own["indexes"])}
    return {
        "batch": batch,
        "payload": payload,
        "log": log,
        "log_bytes": float(total["bytes"]) / messages,
        "cpu_ms": cpu / messages * 1000,
        "seconds": wall,
        "rate": messages / wall,
        "table": table | {"heap": table["heap"] / messages, "toast": table["toast"] / messages},
        "indexes": indexes,
        "milliseconds": {name: each / messages * 1000 for name, each in seconds.items()},
    }


def _message(organization: UUID, job: UUID, contacts: list[UUID], n: int) -> Message:
    # As the platform writes them: a campaign, and a random part.
    key = f"{job}:{_noise(n, 10).hex()}"
    contact = contacts[n % len(contacts)]
    return Message(organization_id=organization, delivery_id=key, campaign_id=str(job), job_id=job, contact_id=contact)


def _content(size: int, seed: int) -> str:
    """Return a payload as JSON, half of it words that compress and half of it letters that hardly do."""
    noise = base64.b64encode(_noise(seed, size * 3 // 8)).decode()
    words = " ".join(["<p>Hello {{firstName}}, welcome</p>"] * (size // 70))
    return json.dumps({"to": "someone@example.com", "html": words + noise})


def _noise(seed: int, size: int) -> bytes:
    return hashlib.shake_128(str(seed).encode()).digest(size)


def _claims(messages: list[Message]) -> str:
    claims = [
        claim_json(
            n,
            Claim(
                message, "email", f"job-{message.key}", f"contact{n}@example.com", None, _PROVIDER,
                "custom_smtp smtp.example.com", f"<{message.key}@example.com>", ready=True,
            ),
            uuid4().hex,
        )
        for n, message in enumerate(messages)
    ]  # fmt: skip
    return (b"[" + b",".join(claims) + b"]").decode()


def _send(
    connection: psycopg.Connection[Any], messages: list[Message], payload: str, seconds: dict[str, float]
) -> None:
    call = product("deliveries")
    claims = _claims(messages)
    began = time.perf_counter()
    parameters = {"claims": claims, "lease": "60 seconds"}
    ((answers,),) = connection.execute(call["claim"], parameters)
    between = time.perf_counter()
    attempt = {"provider": "custom_smtp", "at": "2026-01-01T00:00:00Z", "outcome": "sent", "seconds": 0.1}
    fences = {answer["n"]: answer["fence"] for answer in answers}
    results = [
        result_json(
            n,
            Result(
                message, fences[n], State.SENT, provider_id=_PROVIDER, provider="custom_smtp smtp.example.com",
                provider_message_id=f"queued as {n}", attempts=[attempt], payload=payload,
            ),
        )
        for n, message in enumerate(messages)
    ]  # fmt: skip
    settled = {
        "results": (b"[" + b",".join(results) + b"]").decode(),
        "resend_after": "120 seconds",
        "record_activity": False,
    }
    again = time.perf_counter()
    ((recorded,),) = connection.execute(call["record"], settled)
    if not all(answer["recorded"] for answer in recorded):
        raise RuntimeError("a result does not count")
    seconds["claim"] += between - began
    seconds["record"] += time.perf_counter() - again


def _text(result: dict[str, Any]) -> str:
    table, each = result["table"], result["milliseconds"]
    log = f"log {result['log_bytes']:.0f} B a message, Postgres' CPU {result['cpu_ms']:.3f} ms, {result['rate']:.0f}/s"
    space = f"heap {table['heap']:.0f} B, TOAST {table['toast']:.0f} B, indexes {sum(result['indexes'].values()):.0f} B"
    lines = [
        f"payload {result['payload']} B, {result['batch']} at once: {log}",
        f"  claim {each['claim']:.3f} ms, record {each['record']:.3f} ms a message",
        f"  ledger: {space} a message; updates {table['updates']}, HOT {table['hot']}, dead rows {table['dead']}",
    ]
    lines += [f"  log of {relation}: {size:.0f} B" for relation, size in result["log"].items() if size >= 1]
    lines += [f"  size of {index}: {size:.1f} B" for index, size in result["indexes"].items() if size >= 1]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
