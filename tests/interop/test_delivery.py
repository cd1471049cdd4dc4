"""Messages pass between Node's BullMQ, current and 5.x, and `deliver`, both ways."""

import json
import signal
from typing import Any

import pytest

from tests.delivery.crash import ended, start
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.interop.node import node
from tests.support import run_program


def url(world: World) -> str:
    assert world.settings.redis_url
    return world.settings.redis_url.get_secret_value()


def produce(world: World, package: str, *jobs: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Have Node add jobs while `deliver` runs, and return what it heard of each, and the queue's counts."""
    process = start(world, "--concurrency", "email=1")
    try:
        # Node refuses names with a colon; the same keys come of a prefix that ends where ours splits.
        prefix = f"{world.settings.queue_prefix}:delivery"
        *heard, counts = node("messages.mjs", package, prefix, "send-email", url(world), json.dumps(jobs))
    finally:
        process.send_signal(signal.SIGTERM)
        status, errors = ended(process)
    assert status == 0, errors
    return heard, counts


def test_node_sees_what_became_of_its_messages(world: World, package: str, sink: Sink) -> None:
    policy = {"attempts": 4, "backoff": {"type": "exponential", "delay": 100}}
    heard, counts = produce(
        world,
        package,
        {"data": world.message("d1"), "opts": {"jobId": "plain"}},
        {"data": world.message("d2"), "opts": {"jobId": "kept", "removeOnComplete": {"age": 3600}, **policy}},
        {"data": world.message("d3"), "opts": {"jobId": "gone", "removeOnComplete": True}},
        {"data": world.message("d4"), "opts": {"jobId": "later", "delay": 300}},
        {
            "data": world.message("d5", emailAddress="drop-rcpt-once@example.com"),
            "opts": {"jobId": "again", **policy},
        },
        {"data": world.message("d6", emailAddress="reject-550@example.com"), "opts": {"jobId": "refused", **policy}},
        {
            "data": world.message("d7", emailAddress="drop-rcpt@example.com"),
            "opts": {"jobId": "never", "attempts": 2, "backoff": 50},
        },
        {"data": {"deliveryId": "d8"}, "opts": {"jobId": "malformed"}},
    )
    by_id = {each["id"]: each for each in heard}
    states = {name: each["state"] for name, each in by_id.items()}
    assert states == {
        "plain": "completed",
        "kept": "completed",
        "gone": "removed",
        "later": "completed",
        "again": "completed",
        "refused": "failed",
        "never": "failed",
        "malformed": "failed",
    }
    assert by_id["plain"]["value"] == "sent"
    assert "550 5.1.1" in by_id["refused"]["reason"]
    assert "given up after 2 attempts" in by_id["never"]["reason"]
    assert "organizationId: Field required" in by_id["malformed"]["reason"]
    assert (by_id["again"]["attempts"], by_id["refused"]["attempts"], by_id["never"]["attempts"]) == (2, 1, 2)
    assert "delayed" in by_id["later"]["events"]
    assert "delayed" in by_id["again"]["events"]
    assert all(each["finished"] for name, each in by_id.items() if name != "gone")
    assert {name: counts[name] for name in ("waiting", "active", "delayed", "failed")} == {
        "waiting": 0,
        "active": 0,
        "delayed": 0,
        "failed": 3,
    }
    assert len(sink.messages()) == 5


def test_priorities_are_kept(world: World, package: str) -> None:
    jobs = [{"data": world.message(f"d{n}"), "opts": {"jobId": f"p{n}", "priority": 10 - n}} for n in range(4)]
    heard, _ = produce(world, package, *jobs)
    assert [each["id"] for each in sorted(heard, key=lambda each: int(each["place"]))] == ["p3", "p2", "p1", "p0"]


@pytest.mark.parametrize("taken_over", ["between two attempts", "from the dead letters"])
def test_what_the_node_engine_gave_up_is_sent_and_counted_once(
    world: World, package: str, sink: Sink, taken_over: str
) -> None:
    campaign, contact = str(world.campaign(1)), str(world.contact())
    world.add(world.message(jobId=campaign, contactId=contact), ids=["j1"])
    attempts = 4 if taken_over == "between two attempts" else 1
    options = {"attempts": attempts, "backoff": {"type": "fixed", "delay": 1}}
    world.ask("HSET", f"{world.base}:j1", "opts", json.dumps(options))
    prefix = f"{world.settings.queue_prefix}:delivery"
    (attempt,) = node("engine.mjs", package, prefix, "send-email", url(world), "1")
    assert (attempt["did"], world.ask("GET", world.mark("d1"))) == ("failed", b"failed")
    # What the engine leaves in Postgres.
    world.write(
        "INSERT INTO delivery.delivery_events (job_id, organization_id, contact_id, channel, event_type, metadata)"
        " VALUES (%(job)s, %(organization)s, %(contact)s, 'email', 'failed', '{\"error\": \"unsupported provider\"}')",
        job=campaign,
        contact=contact,
    )
    world.write("UPDATE delivery.delivery_jobs SET failed_count = 1, status = 'failed', completed_at = '2026-11-01'")
    if taken_over == "from the dead letters":
        assert world.jobs_in("failed") == ["j1"]
        done = run_program(
            *("dlq", "retry", "j1", "--yes"),
            DATABASE_URL=world.settings.database_url.get_secret_value() if world.settings.database_url else "",
            REDIS_URL=url(world),
            MAUNTIC_QUEUE_PREFIX=world.settings.queue_prefix,
        )
        assert done.returncode == 0, done.stderr
        assert world.ask("GET", world.mark("d1")) is None
    world.hurry()
    world.deliver()
    assert (world.states(), len(sink.messages())) == ({"d1": "sent"}, 1)
    assert world.ask("GET", world.mark("d1")).decode() == f"mauntic-jobs:{world.organization}"
    (row,) = world.session.rows(b"SELECT sent_count, failed_count, status FROM delivery.delivery_jobs")
    assert (row["sent_count"], row["failed_count"], row["status"]) == (1, 0, "sent")


def test_a_node_worker_takes_what_enqueue_puts_there(world: World, package: str) -> None:
    done = run_program(
        *("enqueue", "email", "--to", "ann@example.com", "--body", "Hi", "--org", str(world.organization)),
        *("--count", "3"),
        REDIS_URL=url(world),
        MAUNTIC_QUEUE_PREFIX=world.settings.queue_prefix,
    )
    assert done.returncode == 0, done.stderr
    jobs = node("worker.mjs", package, f"{world.settings.queue_prefix}:delivery", "send-email", url(world), "3")
    assert [each["name"] for each in jobs] == ["send-email"] * 3
    assert {each["data"]["emailAddress"] for each in jobs} == {"ann@example.com"}
    assert {each["opts"]["attempts"] for each in jobs} == {4}
    assert all(each["id"] == each["data"]["deliveryId"] for each in jobs)
