"""Redis that lost its data: noticed whatever was lost, no alert ended by it, and put back without doubling anything."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis import Redis
from typer.testing import CliRunner

from mauntic_jobs.aio.idle_mode import IdleMode
from mauntic_jobs.delivery.channels import CHANNELS
from mauntic_jobs.delivery.process.redis_watch import watch_redis
from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.recovery.marker import Loss, close_loss, look, mark, open_loss, read_marker
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.stores.redis.client import RedisScripts, open_redis
from mauntic_jobs.timekeeping import clock
from tests.delivery.sink import Sink, running_sink
from tests.delivery.world import World, new_world
from tests.support import APP, utc
from tests.valkey import valkey

NOW = utc("2026-11-05T10:00")
MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def own_redis(servers: Servers) -> Iterator[str]:
    with valkey(servers, "recovery") as url:
        yield url


@pytest.fixture
def here(direct_settings: Settings, own_redis: str) -> Settings:
    own = {"redis_url": own_redis, "queue_prefix": f"{{test-{uuid4().hex}}}"}
    return Settings(**{**direct_settings.model_dump(), **own})


@pytest.fixture
def stores(here: Settings) -> Iterator[tuple[Session, RedisScripts]]:
    with connect(here) as session, closing(open_redis(here)) as redis:
        yield session, redis
        redis.command("FLUSHALL")


def test_nothing_is_lost_while_redis_keeps_what_it_was_given(
    here: Settings, stores: tuple[Session, RedisScripts]
) -> None:
    for minute in range(3):
        assert mark(*stores, here, NOW + minute * MINUTE) is None
    # A process that ends between the two stores leaves Redis ahead.
    stores[1].command("HINCRBY", f"mauntic-jobs:marker:{here.queue_prefix}", "number", 5)
    assert mark(*stores, here, NOW + 3 * MINUTE) is None
    marker = read_marker(stores[0], here)
    assert marker
    assert (marker.number, marker.marked_at) == (9, NOW + 3 * MINUTE)


def test_an_emptied_redis_is_noticed_until_it_is_recovered_from(
    here: Settings, stores: tuple[Session, RedisScripts]
) -> None:
    session, redis = stores
    mark(session, redis, here, NOW)
    redis.command("FLUSHALL")
    loss = Loss(since=NOW, kept_until=None, noticed_at=NOW + MINUTE)
    assert look(read_marker(session, here), redis, here, NOW + MINUTE) == loss
    assert open_loss(session, here) is None
    for minute in (1, 2, 3):
        assert mark(session, redis, here, NOW + minute * MINUTE) == loss
    assert loss.sentence.startswith("Redis was emptied after 2026-11-05 10:00 UTC:")
    # Another loss before the first one is recovered from makes it no later.
    redis.command("FLUSHALL")
    assert mark(session, redis, here, NOW + 4 * MINUTE) == loss
    close_loss(session, here, NOW + 5 * MINUTE)
    assert mark(session, redis, here, NOW + 6 * MINUTE) is None


def test_a_redis_that_was_set_back_is_noticed(here: Settings, stores: tuple[Session, RedisScripts]) -> None:
    session, redis = stores
    key = f"mauntic-jobs:marker:{here.queue_prefix}"
    for minute in range(4):
        mark(session, redis, here, NOW + minute * MINUTE)
    redis.command("HSET", key, "number", 2, "at", (NOW + MINUTE).isoformat())
    loss = mark(session, redis, here, NOW + 9 * MINUTE)
    assert loss == Loss(since=NOW + 3 * MINUTE, kept_until=NOW + MINUTE, noticed_at=NOW + 9 * MINUTE)
    assert "was set back to its state of 2026-11-05 10:01 UTC after 2026-11-05 10:03 UTC" in loss.sentence


def test_a_process_that_ends_before_it_has_raised_the_marker_hides_no_loss(
    here: Settings, stores: tuple[Session, RedisScripts], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, redis = stores
    mark(session, redis, here, NOW)
    redis.command("FLUSHALL")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RedisScripts, "run", killed)
        with pytest.raises(KeyboardInterrupt):
            mark(session, redis, here, NOW + MINUTE)
    assert mark(session, redis, here, NOW + 2 * MINUTE) == Loss(NOW, None, NOW + MINUTE)


@pytest.fixture
def sink(tmp_path: Any) -> Iterator[Sink]:
    with running_sink(tmp_path) as running:
        yield running


@pytest.fixture
def world(direct_settings: Settings, own_redis: str) -> Iterator[World]:
    with new_world(direct_settings, own_redis) as made:
        yield made
        with Redis.from_url(own_redis) as client:
            client.flushall()


def _run(world: World, *words: str) -> Any:
    assert world.settings.redis_url
    assert world.settings.database_url
    variables = {
        "DATABASE_URL": world.settings.database_url.get_secret_value(),
        "REDIS_URL": world.settings.redis_url.get_secret_value(),
        "MAUNTIC_QUEUE_PREFIX": world.settings.queue_prefix,
    }
    return CliRunner().invoke(APP, words, prog_name="mauntic-jobs", env=variables)


def _recover(world: World, *words: str) -> dict[str, Any]:
    done = _run(world, "recover", "--json", *words)
    assert done.exit_code == ExitCode.DONE, done.output
    return dict(json.loads(done.stdout))


def _enter(world: World, *, moved: bool) -> UUID:
    """Let a contact enter a journey; with `moved` the executor has executed its first step."""
    execution = uuid4()
    ids = {"execution": execution, "journey": uuid4(), "contact": uuid4(), "step": uuid4()}
    world.write(
        "INSERT INTO journey.journeys (id, organization_id, name, status)"
        " VALUES (%(journey)s, %(organization)s, 'Welcome', 'active')",
        **ids,
    )
    world.write(
        "INSERT INTO journey.journey_executions"
        " (id, journey_id, journey_version_id, organization_id, contact_id, status)"
        " VALUES (%(execution)s, %(journey)s, gen_random_uuid(), %(organization)s, %(contact)s, 'active')",
        **ids,
    )
    world.write(
        "INSERT INTO mauntic_jobs.outbox (queue, job_id, name, data)"
        " VALUES ('journey:execute-step', %(execution)s, 'execute-step', '{}')",
        **ids,
    )
    if moved:
        world.write(
            "INSERT INTO journey.step_executions (execution_id, step_id, organization_id, status)"
            " VALUES (%(execution)s, %(step)s, %(organization)s, 'completed')",
            **ids,
        )
    return execution


def test_what_postgres_owes_is_put_back_once(world: World, sink: Sink) -> None:
    world.provider("127.0.0.1", 1)
    campaign = world.campaign(3)
    world.add(world.message("d1", jobId=str(campaign)), world.message("d2", jobId=str(campaign)))
    world.deliver()
    entered, moved = _enter(world, moved=False), _enter(world, moved=True)
    assert _run(world, "outbox", "publish").exit_code == ExitCode.DONE
    assert _run(world, "monitor", "run", "--once").exit_code == ExitCode.DONE
    world.ask("FLUSHALL")

    plan = _recover(world)
    assert plan["loss"]["kept_until"] is None
    assert (plan["dry_run"], plan["messages"], plan["executions"]) == (True, 2, 1)
    assert world.ask("KEYS", f"{world.base}:*") == []

    done = _recover(world, "--yes")
    assert (done["messages"], done["executions"]) == (2, 1)
    ((lost,),) = (done["campaigns"],)
    assert (lost["id"], lost["recipient_count"] - lost["known"] - lost["queued"]) == (str(campaign), 1)
    ((under_way,),) = (done["journeys"],)
    assert (under_way["journey"], under_way["executions"]) == ("Welcome", 1)
    steps = f"{world.settings.queue_prefix}:journey:execute-step"
    assert world.ask("LRANGE", f"{steps}:wait", 0, -1) == [str(entered).encode()]
    assert not world.ask("EXISTS", f"{steps}:{moved}")

    again = _recover(world, "--yes")
    assert (again["loss"], again["messages"], again["executions"]) == (None, 0, 0)
    world.write("DELETE FROM delivery.provider_configs WHERE organization_id = %(organization)s")
    world.provider(sink.host, sink.port)
    world.hurry()
    world.deliver()
    assert world.states() == {"d1": "sent", "d2": "sent"}
    assert len(sink.messages()) == 2


def test_schedulers_of_jobs_that_bullmq_launched_are_registered_again(world: World) -> None:
    assert _run(world, "schedule", "register").exit_code == ExitCode.DONE
    _claim_slot(world, "aggregate-hourly", "bullmq", "2026-11-05 10:00Z")
    _claim_slot(world, "segment-trigger-eval", "bullmq", "2026-11-05 09:00Z")
    _claim_slot(world, "segment-trigger-eval", "cron", "2026-11-05 10:00Z")
    assert _recover(world)["schedulers"] == []
    world.ask("FLUSHALL")
    assert _recover(world)["schedulers"] == ["aggregate-hourly"]
    assert _recover(world, "--yes")["schedulers"] == ["aggregate-hourly"]
    assert _recover(world, "--yes")["schedulers"] == []
    key = f"{world.settings.queue_prefix}:analytics:aggregate-hourly"
    assert world.ask("ZCARD", f"{key}:repeat") == world.ask("ZCARD", f"{key}:delayed") == 1


def _claim_slot(world: World, job: str, launcher: str, slot: str) -> None:
    world.write(
        "INSERT INTO mauntic_jobs.runs"
        " (job, window_start, window_end, status, launcher, slot, claims_slot, host, pid, version, fencing_token,"
        " finished_at)"
        " VALUES (%(job)s, %(slot)s::timestamptz - interval '1 hour', %(slot)s, 'succeeded', %(launcher)s, %(slot)s,"
        " true, 'h', 1, '0', 1, clock_timestamp())",
        job=job,
        launcher=launcher,
        slot=slot,
    )


def test_a_loss_ends_no_alert_about_what_was_in_redis(world: World) -> None:
    world.add(*({"organizationId": "none"} for _ in range(21)))
    world.deliver()
    added = round((clock.now() - timedelta(hours=1)).timestamp() * 1000)
    waiting = f"{world.settings.queue_prefix}:{CHANNELS['sms'].queue}"
    world.ask("HSET", f"{waiting}:x", "timestamp", added, "data", "{}")
    world.ask("LPUSH", f"{waiting}:wait", "x")
    _run(world, "monitor", "run", "--once")
    assert _open_causes(world) == ["consumer stuck", "dead letters"]
    world.ask("FLUSHALL")
    _run(world, "monitor", "run", "--once")
    assert _open_causes(world) == ["consumer stuck", "dead letters", "redis lost data"]
    status = json.loads(_run(world, "status", "--json").stdout)
    assert [each["command"] for each in status["findings"] if each["subject"] == "redis"] == ["mauntic-jobs recover"]
    _recover(world, "--yes")
    _run(world, "monitor", "run", "--once")
    assert _open_causes(world) == []


def _open_causes(world: World) -> list[str]:
    rows = world.session.rows(b"SELECT cause FROM mauntic_jobs.alerts WHERE closed_at IS NULL ORDER BY cause")
    return [row["cause"] for row in rows]


def test_the_screen_says_what_would_be_done_and_how(world: World) -> None:
    world.provider("127.0.0.1", 1)
    world.add(world.message())
    world.deliver()
    world.ask("DEL", *[f"{world.base}:{name}" for name in ("delayed", "meta", *world.jobs_in("delayed"))])
    shown = _run(world, "recover").stdout
    assert "messages" in shown
    assert shown.rstrip().endswith("Nothing was changed. To do it: mauntic-jobs recover --yes")
    assert CHANNELS["email"].queue not in shown


def test_deliver_notices_a_loss_and_the_clock_sends_the_alert(world: World) -> None:
    world.deliver()
    assert read_marker(world.session, world.settings)
    world.ask("FLUSHALL")

    async def refreshed() -> float | None:
        return None

    async def watch() -> str:
        said: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        watching = asyncio.create_task(watch_redis(world.settings, said.set_result, IdleMode(refreshed)))
        try:
            return await said
        finally:
            watching.cancel()

    assert "Redis was emptied" in asyncio.run(asyncio.wait_for(watch(), 30))
    assert _open_causes(world) == []
    assert _run(world, "schedule", "run").exit_code == ExitCode.DONE
    assert _open_causes(world) == ["redis lost data"]
    _recover(world, "--yes")
    assert _run(world, "schedule", "run").exit_code == ExitCode.DONE
    assert _open_causes(world) == []
