"""Features of BullMQ that a platform sets on a delivery queue in Node: limits, schedulers, retries."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from mauntic_jobs.bullmq import Queue, create_worker
from mauntic_jobs.ops.status.findings import findings
from mauntic_jobs.ops.status.read import read_status
from mauntic_jobs.stores.bullmq.workers import foreign_workers
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.epoch import milliseconds
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.interop.node import HERE, PACKAGES, node
from tests.support import wait_until

_PATIENCE_SECONDS = 60


def _node(world: World, package: str, *words: str) -> Any:
    assert world.settings.redis_url
    url = world.settings.redis_url.get_secret_value()
    prefix, _, name = world.base.rpartition(":")
    (answer,) = node("queues.mjs", package, prefix, name, url, *words)
    return answer


def _deliver_until(world: World, is_done: Callable[[], bool], look: Callable[[], None] = lambda: None) -> None:
    """Deliver until something is so, and then look while the consumer still runs."""

    async def run() -> None:
        engine = world.engine(until_empty=False)
        running = asyncio.ensure_future(engine.run())
        while not running.done() and not await asyncio.to_thread(is_done):  # noqa: ASYNC110 - no bell rings
            await asyncio.sleep(0.05)
        if not running.done():
            await asyncio.to_thread(look)
        engine.stop()
        await running

    asyncio.run(asyncio.wait_for(run(), _PATIENCE_SECONDS))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_global_rate_limit_is_used_up(world: World, sink: Sink, package: str) -> None:
    assert _node(world, package, "limit", json.dumps({"max": 5, "duration": 1000}))
    world.add(*(world.message(f"d{number}") for number in range(21)))
    _deliver_until(world, lambda: len(sink.messages()) == 21)
    times = sorted(message.at for message in sink.messages())
    # Twenty-one take four ends of the limit, of a second each. The look every 5 s would make that twenty seconds.
    seconds = (times[-1] - times[0]).total_seconds()
    assert 3.5 <= seconds <= 10
    assert all((later - earlier).total_seconds() > 0.5 for earlier, later in zip(times, times[6:], strict=False))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_job_scheduler_goes_on(world: World, sink: Sink, package: str) -> None:
    _node(world, package, "every", json.dumps({"id": "digest", "every": 500, "data": world.message()}))
    ended = f"{world.base}:completed"
    _deliver_until(world, lambda: world.ask("ZCARD", ended) >= 3)
    assert len(sink.messages()) == 1, "the same message is sent once"
    (scheduler,) = _node(world, package, "schedulers")
    assert (scheduler["key"], scheduler["iterationCount"] >= 3) == ("digest", True)
    # On a busy machine the second iteration comes while the first is being sent.
    assert [reason for _, _, reason in world.reported if reason != "it is being sent"] == []


def test_a_job_scheduler_that_cannot_be_followed_is_named(world: World, sink: Sink) -> None:
    options = {"repeat": {"pattern": "0 9 * * *", "tz": "Atlantis/Capital"}}
    name = f"repeat:digest:{milliseconds(clock.now())}"
    world.add(world.message(), ids=[name])
    world.ask("HSET", f"{world.base}:{name}", "rjk", "digest", "opts", json.dumps(options))
    world.deliver()
    assert len(sink.messages()) == 1
    ((what, job, reason),) = world.reported
    assert (what, job) == ("ended", name)
    assert "its zone 'Atlantis/Capital' is unknown" in reason


@pytest.mark.parametrize("package", PACKAGES)
def test_node_sees_our_consumers_and_the_doctor_does_not_take_them_for_its_own(world: World, package: str) -> None:
    seen: list[Any] = []

    def look() -> None:
        seen.append(_node(world, package, "workers"))
        with closing(open_redis(world.settings)) as redis:
            seen.append(foreign_workers(redis.command("CLIENT LIST"))[world.base])

    world.add(world.message())
    _deliver_until(world, lambda: world.states() == {"d1": "sent"}, look)
    workers, foreign = seen
    assert workers["count"] == 1
    assert workers["names"][0].endswith(":w:mauntic-jobs")
    assert foreign == 0
    assert _node(world, package, "workers")["count"] == 0


@pytest.mark.parametrize("package", PACKAGES)
def test_node_sees_the_workers_of_scheduled_jobs(world: World, package: str) -> None:
    assert world.settings.redis_url
    queue = Queue(world.settings.redis_url.get_secret_value(), "delivery:send-email", world.settings.queue_prefix)
    counts: list[int] = []

    def handle(_: Any) -> None:
        counts.append(_node(world, package, "workers")["count"])

    world.add(world.message())
    create_worker(queue, handle).run(until_empty=True)
    assert counts == [1]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_retry_in_bull_board_sends_what_had_failed(world: World, sink: Sink, package: str) -> None:
    campaign = world.campaign(1)
    contact = str(world.contact())
    world.add(world.message(emailAddress="policy-550@example.com", jobId=str(campaign), contactId=contact), ids=["j1"])
    world.deliver()
    assert (world.states(), world.jobs_in("failed")) == ({"d1": "failed"}, ["j1"])
    assert _node(world, package, "retry", "j1") == "waiting"
    sink.behaviour.recipients["policy-550"] = "slow"
    world.deliver()
    assert (world.states(), world.jobs_in("completed"), len(sink.messages())) == ({"d1": "sent"}, ["j1"], 1)
    (row,) = world.session.rows(b"SELECT sent_count, failed_count FROM delivery.delivery_jobs")
    assert (row["sent_count"], row["failed_count"]) == (1, 0)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_retry_in_bull_board_has_all_attempts_again(world: World, sink: Sink, package: str) -> None:
    world.add(world.message(emailAddress="drop-rcpt@example.com"), ids=["j1"])
    world.ask("HSET", f"{world.base}:j1", "opts", json.dumps({"attempts": 2, "backoff": 1}))
    world.deliver()
    assert (world.states(), world.job("j1")["atm"]) == ({"d1": "failed"}, "2")
    _node(world, package, "retry", "j1")
    world.deliver()
    assert (world.states(), world.job("j1")["atm"]) == ({"d1": "failed"}, "2")
    assert len(world.ledger()[0]["attempts"]) == 4
    assert len(sink.messages()) == 0


@pytest.mark.parametrize("stands", ["sent", "suppressed", "expired", "ambiguous"])
def test_a_retry_in_bull_board_doubles_nothing(world: World, sink: Sink, stands: str) -> None:
    world.add(world.message(emailAddress="policy-550@example.com"), ids=["j1"])
    world.deliver()
    world.write(
        "UPDATE mauntic_jobs.deliveries SET state = %(stands)s, until = NULL WHERE organization_id = %(organization)s",
        stands=stands,
    )
    sink.behaviour.recipients["policy-550"] = "slow"
    _node(world, "bullmq", "retry", "j1")
    world.deliver()
    assert (world.states(), sink.messages()) == ({"d1": stands}, [])


def test_a_retry_in_bull_board_of_a_message_older_than_the_ledger_is_refused(world: World, sink: Sink) -> None:
    world.add(world.message(emailAddress="policy-550@example.com"), ids=["j1"])
    world.deliver()
    world.write("DELETE FROM mauntic_jobs.deliveries WHERE organization_id = %(organization)s")
    world.write("INSERT INTO mauntic_jobs.pruned (part, before) VALUES ('deliveries', clock_timestamp())")
    sink.behaviour.recipients["policy-550"] = "slow"
    _node(world, "bullmq", "retry", "j1")
    world.deliver()
    assert (world.states(), sink.messages(), world.jobs_in("failed")) == ({}, [], ["j1"])
    assert "older than the ledger" in world.job("j1")["failedReason"]


@pytest.mark.parametrize("package", PACKAGES)
def test_status_names_a_worker_of_node(world: World, package: str) -> None:
    assert world.settings.redis_url
    url = world.settings.redis_url.get_secret_value()
    prefix, _, name = world.base.rpartition(":")
    words = ["node", "queues.mjs", package, prefix, name, url, "work"]
    with subprocess.Popen(words, cwd=HERE, stdout=subprocess.PIPE) as worker:
        try:
            assert worker.stdout is not None
            assert worker.stdout.readline().strip() == b'"runs"'
            with closing(open_redis(world.settings)) as redis:
                wait_until(lambda: foreign_workers(redis.command("CLIENT LIST"))[world.base] > 0, "the worker's name")
            status = read_status(world.settings, [], clock.now())
        finally:
            worker.kill()
    found = [each for each in findings(status) if "workers of another program" in each.text]
    assert [(each.subject, each.urgent) for each in found] == [("delivery:send-email", False)]
    assert {each.queue.name: each.other_workers for each in status.queues or []} == {
        "delivery:send-email": 1,
        "delivery:send-sms": 0,
        "delivery:send-push": 0,
        "journey:execute-step": 0,
    }
