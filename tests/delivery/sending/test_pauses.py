"""Paused providers: the refusal stands beside the messages, `status` shows it, and one command ends it everywhere."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from mauntic_jobs.delivery.sending.circuit_breaker import CircuitBreaker
from mauntic_jobs.delivery.sending.pauses import Pauses
from mauntic_jobs.job import Row
from mauntic_jobs.stores.postgres.async_link import PostgresLink
from mauntic_jobs.timekeeping import clock
from tests.delivery.ledger.test_operator_commands import program
from tests.delivery.sink import Sink, running_sink
from tests.delivery.world import World
from tests.support import run_on_loop, wait_until

MESSAGES = 9
# These have tried it; the others wait on the queue.
TRIED = 5


@pytest.fixture
def strict_sink(tmp_path: Path) -> Iterator[Sink]:
    with running_sink(tmp_path, login=("news", "right")) as running:
        yield running


@pytest.fixture
def paused(world: World, strict_sink: Sink) -> World:
    """Return a world whose only provider refuses the login, with messages that wait for it."""
    world.provider(strict_sink.host, strict_sink.port, auth={"user": "news", "pass": "wrong"})
    world.add(*(world.message(f"d{n}") for n in range(MESSAGES)))
    world.deliver(concurrency={"email": 1}, drain_timeout=timedelta(seconds=1))
    # However slow the machine, nothing ends by itself.
    world.write("UPDATE mauntic_jobs.provider_pauses SET until = until + interval '1 hour'")
    world.write("UPDATE mauntic_jobs.deliveries SET until = until + interval '1 hour'")
    later = (datetime.now(UTC) + timedelta(hours=1)).timestamp()
    for job in world.jobs_in("delayed"):
        world.ask("ZADD", f"{world.base}:delayed", int(later * 1000) * 0x1000, job)
    (row,) = pauses_of(world)
    world.ask("HSET", f"{world.base}:adm:limit:{row['provider_id']}", "b", int(later * 1_000_000))
    world.ask("ZADD", f"{world.base}:adm:wake", int(later * 1_000_000), str(row["provider_id"]))
    return world


def put_right(world: World) -> None:
    world.write(
        "UPDATE delivery.provider_configs SET config = jsonb_set(config, '{auth,pass}', '\"right\"')"
        " WHERE organization_id = %(organization)s"
    )


def pauses_of(world: World) -> list[Row]:
    return world.session.rows(b"SELECT * FROM mauntic_jobs.provider_pauses")


def finding(world: World) -> Row | None:
    shown = json.loads(program(world, "status", "--json").stdout)
    found = [each for each in shown["findings"] if each["subject"] == "providers"]
    return found[0] if found else None


def test_the_refusal_stands_beside_every_message_that_tried_it_and_the_others_are_not_touched(paused: World) -> None:
    reasons = [row["reason"] for row in paused.ledger()]
    assert len([each for each in reasons if "535" in each]) == len(reasons) == TRIED
    assert len(paused.jobs_in("wait")) == MESSAGES - TRIED
    (row,) = pauses_of(paused)
    assert (row["tries"], row["channel"], "535" in row["reason"], "wrong" in row["reason"]) == (5, "email", True, False)
    assert [text for text in paused.said if "is paused" in text and "535" in text]


def test_a_message_that_waits_says_for_what_since_when_and_what_to_do(paused: World) -> None:
    tried = {row["delivery_id"] for row in paused.ledger()}
    waiting = {paused.key(f"d{n}") for n in range(MESSAGES)} - tried
    explained = [program(paused, "deliveries", "explain", each, "--json").stdout for each in waiting]
    shown = max((json.loads(each) for each in explained), key=lambda each: each["before"])
    assert (shown["state"], shown["before"]) == ("held", MESSAGES - TRIED - 1)
    for part in ("custom_smtp", "fails since 20", "5 tries", "535"):
        assert part in shown["because"]
    assert shown["until"] == pauses_of(paused)[0]["until"].isoformat()
    assert shown["command"] == f"mauntic-jobs providers check --org {paused.organization} --retry-now"


def test_status_is_red_with_who_since_when_how_many_and_what_to_do(paused: World) -> None:
    found = finding(paused)
    assert found is not None
    assert found["urgent"]
    for part in ("custom_smtp", str(paused.organization), "refuses since 20", "5 tries", "9 email waiting", "535"):
        assert part in found["text"]
    assert found["command"] == f"mauntic-jobs providers check --org {paused.organization} --retry-now"


def test_one_fault_of_many_tenants_is_one_finding(paused: World) -> None:
    paused.write(
        "INSERT INTO mauntic_jobs.provider_pauses SELECT gen_random_uuid(), gen_random_uuid(), channel, provider,"
        " reason, 7, since - interval '1 hour', until FROM mauntic_jobs.provider_pauses, generate_series(1, 3)"
    )
    shown = json.loads(program(paused, "status", "--json").stdout)
    (found,) = [each for each in shown["findings"] if each["subject"] == "providers"]
    assert "4 custom_smtp providers of 4 organizations (" in found["text"]
    assert "and 2 more" in found["text"]
    assert found["command"] == "mauntic-jobs providers check --retry-now"
    assert len(shown["paused_providers"]) == 4


def test_what_still_refuses_stays_paused(paused: World) -> None:
    done = program(paused, "providers", "check", "--org", str(paused.organization), "--retry-now")
    assert (done.returncode, "0 messages released" in done.stdout) == (1, True), done.stderr
    assert len(pauses_of(paused)) == 1
    assert all(row["until"] > datetime.now(UTC) for row in paused.ledger())


def test_what_works_again_is_released_and_sent_once(paused: World, strict_sink: Sink) -> None:
    put_right(paused)
    done = program(
        paused,
        *("providers", "check", "--org", str(paused.organization), "--retry-now", "--rate", "1000/s"),
    )
    assert (done.returncode, f"{TRIED} messages released" in done.stdout) == (0, True), done.stderr
    assert (pauses_of(paused), finding(paused)) == ([], None)
    assert len(paused.jobs_in("wait")) == MESSAGES
    paused.deliver()
    assert set(paused.states().values()) == {"sent"}
    assert len(strict_sink.messages()) == MESSAGES


def test_messages_of_others_and_of_the_warm_up_go_on_waiting(paused: World) -> None:
    warming, others = (row["delivery_id"] for row in paused.ledger()[:2])
    paused.write(
        "UPDATE mauntic_jobs.deliveries SET reason = 'warm-up: 50 sent' WHERE delivery_id = %(key)s", key=warming
    )
    paused.write(
        "UPDATE mauntic_jobs.deliveries SET organization_id = gen_random_uuid() WHERE delivery_id = %(key)s",
        key=others,
    )
    put_right(paused)
    done = program(paused, "providers", "check", "--retry-now", "--rate", "1000/s", "--json")
    (row,) = json.loads(done.stdout)
    assert row["released"] == TRIED - 2
    waiting = [row["delivery_id"] for row in paused.ledger() if row["until"] > datetime.now(UTC)]
    assert sorted(waiting) == sorted([warming, others])


def test_what_waits_goes_out_as_soon_as_an_operator_says_that_it_works(paused: World, strict_sink: Sink) -> None:
    put_right(paused)
    engine = paused.engine(until_empty=False)

    async def run() -> None:
        running = asyncio.ensure_future(engine.run())
        retry = ("providers", "check", "--org", str(paused.organization), "--retry-now", "--rate", "1000/s")
        done = await asyncio.to_thread(program, paused, *retry)
        assert done.returncode == 0, done.stderr
        await asyncio.to_thread(wait_until, lambda: len(strict_sink.messages()) == MESSAGES, "the messages")
        engine.stop()
        await running

    run_on_loop(asyncio.wait_for(run(), 120))
    assert set(paused.states().values()) == {"sent"}


@asynccontextmanager
async def process(world: World) -> AsyncIterator[tuple[CircuitBreaker, Pauses]]:
    """Yield the breaker of a process, and what brings it in line with the others."""
    link, breaker = PostgresLink(world.settings), CircuitBreaker()

    async def use_again(_organization: UUID, used: UUID) -> None:
        world.said.append(f"{used} is used again")

    yield breaker, Pauses(link, breaker, lambda _: ("email", "ses news"), lambda *_: None, world.said.append, use_again)
    await link.close()


def test_a_success_in_one_process_closes_the_breakers_of_all(world: World) -> None:
    provider = UUID(int=7)
    key = world.organization, provider

    async def run() -> None:
        async with process(world) as (one, ones), process(world) as (other, others):
            for breaker in (one, other):
                for _ in range(5):
                    breaker.failed(key, "421 busy", clock.now())
            for each in (ones, others, ones):
                await each.look()
            assert [text.partition(":")[0] for text in world.said] == [
                f"ses news of organization {world.organization} is paused"
            ]
            assert one.remaining(key) > 0
            one.succeeded(key, clock.now())
            await ones.look()
            assert pauses_of(world) == []
            assert other.remaining(key) > 0
            await others.look()
            assert other.remaining(key) == 0
            assert world.said[1:] == [f"{provider} is used again"] * 2

    run_on_loop(run())


def test_a_process_that_never_failed_ends_a_pause_that_was_left_behind(world: World) -> None:
    provider = UUID(int=7)
    key = world.organization, provider

    async def run() -> None:
        async with process(world) as (dead, deads):
            for _ in range(5):
                dead.failed(key, "421 busy", clock.now())
            await deads.look()
        async with process(world) as (fresh, freshs):
            await freshs.look()
            assert len(pauses_of(world)) == 1
            fresh.succeeded(key, clock.now())
            await freshs.look()
            assert pauses_of(world) == []

    run_on_loop(run())


def test_one_more_failure_in_another_process_goes_on_with_the_pause(world: World) -> None:
    provider = UUID(int=7)
    key = world.organization, provider

    async def run() -> None:
        async with process(world) as (one, ones), process(world) as (other, others):
            for _ in range(5):
                one.failed(key, "421 busy", clock.now())
            await ones.look()
            await others.look()
            assert other.remaining(key) == pytest.approx(30, abs=5)
            world.write("UPDATE mauntic_jobs.provider_pauses SET until = now() - interval '1 second', tries = 6")
            await others.look()
            assert other.remaining(key) == 0
            other.failed(key, "421 busy", clock.now())
            assert other.remaining(key) == pytest.approx(120, abs=5)
            await others.look()
            assert pauses_of(world)[0]["tries"] == 7

    run_on_loop(run())
