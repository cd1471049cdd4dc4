"""Processes that are killed, stopped and cut off: nothing is lost, and what may be doubled is named.

`scripts/chaos` runs the same with CHAOS=50, which is how often each is done.
"""

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.settings.settings import Settings
from tests.delivery.crash import age, backlog, check, counted, deliver_all, ended, start
from tests.delivery.failing import POINTS
from tests.delivery.proxy import running_proxy
from tests.delivery.sink import Sink, running_sink
from tests.delivery.web import free_port, get, is_ready
from tests.delivery.world import World, new_world
from tests.support import wait_until

ROUNDS = int(os.environ.get("CHAOS", "1"))
MESSAGES = 20


@pytest.fixture
def ready(world: World, sink: Sink) -> World:
    world.provider(sink.host, sink.port)
    return world


def _moved(world: World, sink: Sink, before: int) -> bool:
    return len(sink.messages()) > before or not world.jobs_in("wait")


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_failpoint(ready: World, sink: Sink, point: str) -> None:
    backlog(ready, MESSAGES)
    for hit in random.Random(point).sample(range(1, 10), min(9, ROUNDS)):
        status, _ = ended(start(ready, "--drain", FAILPOINT=f"{point}:{hit}"))
        if status == 0:
            break
        assert status == -signal.SIGKILL
        age(ready)
    deliver_all(ready)
    states = check(ready, sink, MESSAGES, kills=ROUNDS)
    assert counted(ready) == (states["sent"], 0)


def test_killed_at_random(ready: World, sink: Sink) -> None:
    total, kills = 200 * ROUNDS, 3 * ROUNDS
    backlog(ready, total)
    dice = random.Random(7)
    for _ in range(kills):
        process = start(ready, "--drain")
        time.sleep(dice.uniform(0.5, 1.2))
        process.kill()
        ended(process)
        age(ready)
    deliver_all(ready)
    states = check(ready, sink, total, kills=kills)
    assert counted(ready) == (states["sent"], 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_under_backlog(ready: World, sink: Sink, number: signal.Signals) -> None:
    total, stops = 300 * ROUNDS, 3 * ROUNDS
    backlog(ready, total)
    dice = random.Random(number)
    for _ in range(stops):
        process = start(ready)
        before = len(sink.messages())
        wait_until(partial(_moved, ready, sink, before), "a message")
        time.sleep(dice.uniform(0, 0.05))
        process.send_signal(number)
        status, errors = ended(process)
        assert status == 0, errors
        assert ready.jobs_in("active") == []
        assert {row["state"] for row in ready.ledger()} <= {"sent"}
    deliver_all(ready)
    check(ready, sink, total)
    assert counted(ready) == (total, 0)


def test_what_cannot_end_in_time_is_handed_back_without_an_attempt(ready: World, sink: Sink) -> None:
    # The replies to RCPT do not come.
    with running_proxy(sink.host, sink.port) as proxy:
        ready.write("UPDATE delivery.provider_configs SET is_active = false WHERE organization_id = %(organization)s")
        ready.provider("127.0.0.1", proxy.port)
        backlog(ready, 3)
        proxy.drop_replies()
        process = start(ready, "--drain-timeout", "0s")
        wait_until(lambda: set(ready.states().values()) == {"sending"}, "the claims")
        process.send_signal(signal.SIGTERM)
        status, errors = ended(process)
        assert status == 0, errors
        assert len(ready.jobs_in("wait")) == 3
        assert all(ready.job(each).get("atm", "0") == "0" for each in ready.jobs_in("wait"))
        assert set(ready.states().values()) == {"claimed"}
        proxy.pass_replies()
        proxy.reset_all()
        deliver_all(ready)
    check(ready, sink, 3)


def test_a_second_signal_ends_the_process_at_once(ready: World, sink: Sink) -> None:
    backlog(ready, 2, recipient="freeze+{}@example.com")
    process = start(ready)
    wait_until(sink.messages, "a message")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    status, _ = ended(process)
    assert status == 128 + signal.SIGTERM
    assert time.monotonic() - began < 1


def test_a_provider_that_cuts_off_and_refuses(ready: World, sink: Sink) -> None:
    backlog(ready, 12, recipient="drop-rcpt+{}@example.com")
    backlog(ready, 12, first=12, recipient="drop-after-dot-once+{}@example.com")
    backlog(ready, 12, first=24, recipient="reject-550+{}@example.com")
    backlog(ready, 12, first=36, recipient="ok+{}@example.com")
    deliver_all(ready)
    states = check(ready, sink, 48, kills=48, unsent=24)
    assert states == {"failed": 24, "sent": 24}
    assert any(row["possible_duplicate"] for row in ready.ledger())
    assert counted(ready) == (24, 24)


def test_redis_emptied(ready: World, sink: Sink) -> None:
    backlog(ready, 40)
    process = start(ready, FAILPOINT="before-record:10")
    ended(process)
    for key in ready.ask("KEYS", f"{ready.settings.queue_prefix}:*"):
        ready.ask("DEL", key.decode())
    # What no claim has seen is the producer's to add again; here it adds everything again.
    ready.add(*(ready.message(f"d{n:04}", emailAddress=f"ann{n}@example.com") for n in range(40)))
    deliver_all(ready)
    check(ready, sink, 40, kills=1)


@pytest.fixture
def cut_off(
    direct_settings: Settings, servers: Servers, tmp_path: Path
) -> Iterator[tuple[World, Sink, dict[str, object]]]:
    """Yield a world whose stores are behind proxies."""
    redis = servers.redis_url.rpartition("@")[2].partition("/")[0].partition(":")
    assert direct_settings.database_url
    url = direct_settings.database_url.get_secret_value()
    place = url.rpartition("@")[2].partition("/")[0]
    host, _, port = place.partition(":")
    with (
        running_sink(tmp_path) as sink,
        running_proxy(redis[0], int(redis[2])) as to_redis,
        running_proxy(host, int(port)) as to_postgres,
        new_world(direct_settings, servers.redis_url) as world,
    ):
        world.provider(sink.host, sink.port)
        through = {
            "REDIS_URL": servers.redis_url.replace(f"{redis[0]}:{redis[2]}", f"127.0.0.1:{to_redis.port}"),
            "DATABASE_URL": url.replace(place, f"127.0.0.1:{to_postgres.port}"),
        }
        yield world, sink, {"redis": to_redis, "postgres": to_postgres, "through": through}


@pytest.mark.parametrize("store", ["redis", "postgres"])
def test_a_store_that_goes_away_and_comes_back(cut_off: tuple[World, Sink, dict[str, object]], store: str) -> None:
    world, sink, rig = cut_off
    proxy, through = rig[store], rig["through"]
    backlog(world, 300)
    # A job whose answer was lost is another's for the 30 s of its lock.
    process = start(world, "--drain", "--drain-timeout=60s", **through)  # type: ignore[arg-type]
    wait_until(lambda: len(sink.messages()) > 10, "messages")
    proxy.refuse()  # type: ignore[attr-defined]
    proxy.reset_all()  # type: ignore[attr-defined]
    time.sleep(2)
    proxy.accept()  # type: ignore[attr-defined]
    status, errors = ended(process)
    assert status == 0, errors
    # Not one line for each attempt to reach it.
    assert len(errors.splitlines()) < 20, errors
    assert f"{store}: works again" in errors or "stores: works again" in errors
    deliver_all(world)
    check(world, sink, 300, kills=1)


def test_through_pgbouncer(settings: Settings, servers: Servers, sink: Sink) -> None:
    with new_world(settings, servers.redis_url) as world:
        world.provider(sink.host, sink.port)
        backlog(world, 60)
        ended(start(world, "--drain", FAILPOINT="after-send:20"))
        deliver_all(world)
        check(world, sink, 60, kills=1)


def test_two_processes_share_the_work(ready: World, sink: Sink) -> None:
    backlog(ready, 100)
    status, errors = ended(start(ready, "--drain", "--processes", "2"))
    assert status == 0, errors
    check(ready, sink, 100)


def _troubled(port: int) -> bool:
    return json.loads(get(port, "/health")[1])["trouble"] is not None


@pytest.mark.parametrize("store", ["redis", "postgres"])
def test_stopped_while_a_store_is_away(cut_off: tuple[World, Sink, dict[str, object]], store: str) -> None:
    world, sink, rig = cut_off
    proxy, through = rig[store], rig["through"]
    port = free_port()
    # Whoever waits for what is not in flight is not done in time.
    patience = "600s" if store == "redis" else "0s"
    process = start(world, "--drain-timeout", patience, PORT=str(port), **through)  # type: ignore[arg-type]
    wait_until(lambda: is_ready(port), "its being ready")
    proxy.refuse()  # type: ignore[attr-defined]
    proxy.reset_all()  # type: ignore[attr-defined]
    if store == "postgres":
        backlog(world, 10)
    wait_until(lambda: _troubled(port), "its noticing")
    process.send_signal(signal.SIGTERM)
    status, errors = ended(process)
    assert status == 0, errors
    assert world.jobs_in("active") == []
    assert {world.job(each).get("atm", "0") for each in world.jobs_in("wait")} <= {"0"}
    proxy.accept()  # type: ignore[attr-defined]
    backlog(world, 5, first=10)
    deliver_all(world)
    check(world, sink, 15 if store == "postgres" else 5)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_stopped_before_it_has_reached_its_stores(
    cut_off: tuple[World, Sink, dict[str, object]], processes: str
) -> None:
    world, _, rig = cut_off
    rig["postgres"].freeze()  # type: ignore[attr-defined]
    port = free_port()
    process = start(world, "--processes", processes, PORT=str(port), **rig["through"])  # type: ignore[arg-type]
    wait_until(lambda: rig["postgres"].accepted == int(processes), "its being at it")  # type: ignore[attr-defined]
    process.send_signal(signal.SIGTERM)
    status, errors = ended(process)
    assert (status, errors) == (0, "")


def test_a_second_signal_ends_all_processes_at_once(ready: World, sink: Sink) -> None:
    backlog(ready, 4, recipient="freeze+{}@example.com")
    process = start(ready, "--processes", "2", MAUNTIC_SEND_TIMEOUT="30s")
    wait_until(sink.messages, "a message")
    children = [int(each) for each in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    assert len(children) == 2
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
    status, _ = ended(process)
    assert status == 128 + signal.SIGTERM
    wait_until(lambda: not any(_runs(child) for child in children), "their end", seconds=10)


def _runs(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # a zombie has none
    except OSError:
        return False
