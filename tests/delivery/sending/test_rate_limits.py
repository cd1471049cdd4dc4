"""Rate limits of providers, configured or learned from their refusals: nothing is lost, doubled or given up."""

import signal
from collections import Counter
from contextlib import closing
from datetime import timedelta

import pytest

from mauntic_jobs.ops.providers.limits import read_limits
from mauntic_jobs.stores.redis.client import open_redis
from mauntic_jobs.timekeeping import clock
from tests.delivery.adapters import KINDS, POSTMARK, Kind, add
from tests.delivery.admission.token_bucket import TokenBucket
from tests.delivery.crash import age, ended, start
from tests.delivery.fake_api import Reply, running_api
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.support import wait_until

RATE, COUNT = 50, 200
_SES = "454 Throttling failure: Maximum sending rate exceeded."
_POSTFIX = "450 4.7.1 Error: too much mail from 127.0.0.1"
_CLOSING = "421 4.7.0 Too many messages per minute, try again later"


def check(world: World, bucket: TokenBucket, count: int = COUNT) -> None:
    assert Counter(world.states().values()) == {"sent": count}
    assert len(bucket.taken) == count
    jobs = world.jobs_in("completed")
    assert len(jobs) == count
    assert {world.job(name)["atm"] for name in jobs} == {"1"}, "no attempt is spent on a limit"


def add_messages(world: World, count: int = COUNT) -> None:
    world.add(*(world.message(f"d{n}", emailAddress=f"ann{n}@example.com") for n in range(count)))


@pytest.mark.parametrize(("place", "reply"), [("content", _SES), ("recipient", _POSTFIX), ("recipient", _CLOSING)])
def test_the_rate_of_a_relay_is_learned(world: World, sink: Sink, place: str, reply: str) -> None:
    bucket = TokenBucket(RATE, RATE)
    if place == "content":
        sink.behaviour.at_content = lambda _: None if bucket.take() else reply
    else:
        sink.behaviour.at_recipient = lambda _: None if bucket.take() else reply
    world.provider(sink.host, sink.port)
    add_messages(world)
    world.deliver()
    check(world, bucket)
    assert len({each.recipients for each in sink.messages()}) == len(sink.messages()) == COUNT
    assert len(bucket.refused) < COUNT / 2
    assert world.session.rows(b"SELECT * FROM mauntic_jobs.provider_pauses") == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_rate_of_an_api_is_learned(world: World, kind: Kind) -> None:
    bucket = TokenBucket(RATE, RATE)
    with running_api(lambda _: kind.accepted("m") if bucket.take() else Reply(429)) as api:
        api.account = Reply(404)
        add(world, kind, api.url)
        add_messages(world)
        world.deliver()
    check(world, bucket)
    assert len(bucket.refused) < COUNT / 2


@pytest.mark.parametrize("asked", ["9" * 30, "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_provider_is_asked_again_after_a_day_at_the_latest(world: World, asked: str) -> None:
    with running_api(lambda _: Reply(429, headers={"Retry-After": asked})) as api:
        add(world, POSTMARK, api.url)
        world.add(world.message("d1"), ids=["j1"])
        world.deliver(drain_timeout=timedelta(seconds=1))
    assert world.states() == {"d1": "deferred"}
    assert world.jobs_in("wait") == ["j1"]
    with closing(open_redis(world.settings)) as redis:
        (limit,) = read_limits(redis, world.settings, clock.now())
    assert limit.paused_until is not None
    assert timedelta(hours=23) < limit.paused_until - clock.now() <= timedelta(days=1)


def test_a_configured_rate_is_not_exceeded(world: World, sink: Sink) -> None:
    bucket = TokenBucket(20, 20)
    sink.behaviour.at_content = lambda _: None if bucket.take() else _SES
    world.provider(sink.host, sink.port, rateLimit=20)
    add_messages(world, 100)
    world.deliver()
    check(world, bucket, 100)
    assert bucket.refused == []


def test_processes_share_a_rate_and_leave_none_of_it_when_they_are_killed(world: World, sink: Sink) -> None:
    bucket = TokenBucket(20, 20)
    sink.behaviour.at_content = lambda _: None if bucket.take() else _SES
    world.provider(sink.host, sink.port, rateLimit=20)
    add_messages(world, 150)
    processes = [start(world) for _ in range(4)]
    wait_until(lambda: len(bucket.taken) > 40, "the first messages")
    for process in processes[:2]:
        process.kill()
        ended(process)
    wait_until(lambda: len(bucket.taken) > 80, "messages of the two that are left")
    for process in processes[2:]:
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 0
    age(world)
    world.deliver()
    assert bucket.refused == []
    states = Counter(world.states().values())
    # What was being sent as a process was killed, one message for each of its places at most, may have been sent.
    assert states["sent"] + states["ambiguous"] == 150
    assert states["ambiguous"] <= 10
    assert len({each.recipients for each in sink.messages()}) == len(sink.messages())


def test_a_limited_organization_does_not_hold_up_another(world: World, sink: Sink) -> None:
    order: list[str] = []
    sink.behaviour.at_recipient = order.append
    world.provider(sink.host, sink.port, rateLimit=10)
    world.add(*(world.message(f"a{n}", emailAddress=f"slow{n}@example.com") for n in range(60)))
    world.organization, limited = world.contact(), world.organization
    world.provider(sink.host, sink.port)
    world.add(*(world.message(f"b{n}", emailAddress=f"fast{n}@example.com") for n in range(60)))
    world.deliver()
    assert limited != world.organization
    assert len(order) == 120
    last_of_fast = max(place for place, address in enumerate(order) if address.startswith("fast"))
    assert sum(address.startswith("slow") for address in order[last_of_fast:]) > 20


def test_a_small_organization_does_not_wait_for_a_large_one(world: World, sink: Sink) -> None:
    order: list[str] = []
    sink.behaviour.at_recipient = order.append
    world.provider(sink.host, sink.port)
    world.add(*(world.message(f"a{n}", emailAddress=f"large{n}@example.com") for n in range(1000)))
    world.organization = world.contact()
    world.provider(sink.host, sink.port)
    world.add(*(world.message(f"b{n}", emailAddress=f"small{n}@example.com") for n in range(20)))
    world.deliver()
    assert len(order) == 1020
    last_of_small = max(place for place, address in enumerate(order) if address.startswith("small"))
    assert last_of_small < 100


def test_a_message_that_looks_like_anothers_or_urgent_comes_in_its_own_lane(world: World, sink: Sink) -> None:
    other = world.contact()
    world.provider(sink.host, sink.port)
    # Before the fields that count, as a template's data may stand there.
    forged = {"templateData": {"organizationId": str(other), "transactional": True}}
    message = world.message("d1")
    world.add({**forged, **message}, ids=["j1"])
    world.add({**message, "deliveryId": world.key("d2"), "journeyExecutionId": "e1"}, ids=["j2"])
    world.deliver()
    assert world.states() == {"d1": "sent", "d2": "sent"}
    assert world.job("j1")["mauntic-jobs:lane"] == f"1 {world.organization}"
    assert "mauntic-jobs:lane" not in world.job("j2")
