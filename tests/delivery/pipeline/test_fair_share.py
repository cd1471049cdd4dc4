"""An organization whose messages take long does not hold up the others."""

import asyncio
from collections import Counter
from uuid import UUID, uuid4

import pytest

from mauntic_jobs.delivery.pipeline.fair_share import FairShare
from mauntic_jobs.delivery.sending.providers.keys import max_connections
from tests.delivery.sink import Sink
from tests.delivery.world import World

SLOW, FAST = uuid4(), uuid4()


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def slow_sends(fairness: FairShare, time: Time, organization: UUID, times: int = 6, seconds: float = 2.0) -> None:
    for _ in range(times):
        with fairness.sending(organization):
            time.now += seconds


def fail(fairness: FairShare, organization: UUID, times: int) -> None:
    for _ in range(times):
        with fairness.sending(organization) as exchange:
            exchange.failed = True


def admitted(fairness: FairShare, time: Time, organization: UUID, tries: int) -> int:
    """Return how many of so many messages are taken in hand, each half a second after the last."""
    count = 0
    for _ in range(tries):
        count += fairness.admit(organization) == 0
        time.now += 0.5
    time.now -= tries * 0.5
    return count


def test_an_organization_alone_has_everything_however_slow_it_is() -> None:
    time = Time()
    fairness = FairShare(10, time)
    slow_sends(fairness, time, SLOW)
    assert admitted(fairness, time, SLOW, 15) == 10


def test_a_slow_organization_has_a_fifth_while_others_have_messages() -> None:
    time = Time()
    fairness = FairShare(10, time)
    slow_sends(fairness, time, SLOW)
    assert admitted(fairness, time, FAST, 3) == 3
    assert admitted(fairness, time, SLOW, 15) == 2
    assert admitted(fairness, time, FAST, 30) == 17, "what is in hand of the slow one does not count"


def test_a_slow_message_alone_is_no_trouble_and_trouble_ends_when_most_are_fast_again() -> None:
    time = Time()
    fairness = FairShare(10, time)
    fairness.admit(FAST)
    slow_sends(fairness, time, SLOW, times=2)
    assert admitted(fairness, time, SLOW, 9) == 9
    for _ in range(9):
        fairness.leave(SLOW)
    slow_sends(fairness, time, SLOW, times=1)
    assert admitted(fairness, time, SLOW, 9) == 2
    slow_sends(fairness, time, SLOW, times=1, seconds=0.1)
    assert admitted(fairness, time, SLOW, 7) == 7


def test_an_exchange_that_has_not_ended_makes_slow_as_well() -> None:
    time = Time()
    fairness = FairShare(5, time)
    assert admitted(fairness, time, FAST, 1) == 1
    assert admitted(fairness, time, SLOW, 1) == 1
    with fairness.sending(SLOW):
        assert admitted(fairness, time, SLOW, 1) == 1
        time.now += 1.5
        assert admitted(fairness, time, SLOW, 1) == 0


def test_an_organization_is_in_trouble_when_most_of_its_messages_fail() -> None:
    time = Time()
    fairness = FairShare(10, time)
    fairness.admit(FAST)
    fail(fairness, SLOW, 2)
    assert admitted(fairness, time, SLOW, 6) == 6
    fail(fairness, SLOW, 1)
    assert fairness.aside() == 6
    assert fairness.admit(SLOW) > 0, "what it has in hand already is more than its share"
    for _ in range(6):
        fairness.leave(SLOW)
    assert admitted(fairness, time, SLOW, 15) == 2


def test_messages_of_organizations_in_trouble_have_others_beside_them() -> None:
    time = Time()
    fairness = FairShare(5, time)
    fairness.admit(FAST)
    assert admitted(fairness, time, SLOW, 4) == 4
    with fairness.sending(SLOW):
        assert fairness.aside() == 0
        time.now += 1.5
        assert fairness.aside() == 4
    assert fairness.aside() == 0


def test_an_organization_alone_that_fails_has_nothing_put_off() -> None:
    fairness = FairShare(5, Time())
    fail(fairness, SLOW, 10)
    assert [fairness.admit(SLOW) for _ in range(5)] == [0.0] * 5
    assert fairness.aside() == 0


def test_behind_slow_messages_of_an_organization_alone_others_are_looked_for() -> None:
    time = Time()
    fairness = FairShare(5, time)
    assert admitted(fairness, time, SLOW, 5) == 5
    with fairness.sending(SLOW), fairness.sending(SLOW):
        time.now += 1.5
        assert fairness.aside() == 2


def test_messages_that_fail_at_once_do_not_follow_each_other_at_once() -> None:
    time = Time()
    fairness = FairShare(5, time)
    fairness.admit(FAST)
    fail(fairness, SLOW, 10)
    assert fairness.admit(SLOW) == 0
    fairness.leave(SLOW)
    assert fairness.admit(SLOW) > 0
    time.now += 0.25
    assert fairness.admit(SLOW) == 0


def test_what_waits_for_a_place_is_told_as_soon_as_there_is_one() -> None:
    time = Time()
    fairness = FairShare(10, time)
    fairness.admit(FAST)
    slow_sends(fairness, time, SLOW)
    assert admitted(fairness, time, SLOW, 2) == 2
    assert fairness.admit(SLOW) > 0
    assert fairness.leave(SLOW), "others may have left it waiting, too"
    assert not fairness.leave(FAST), "nothing waits"


def test_what_waited_in_a_trouble_that_is_over_is_told_once() -> None:
    time = Time()
    fairness = FairShare(10, time)
    fairness.admit(FAST)
    slow_sends(fairness, time, SLOW)
    assert admitted(fairness, time, SLOW, 3) == 2
    slow_sends(fairness, time, SLOW, seconds=0.1)
    assert fairness.leave(SLOW)
    assert not fairness.leave(SLOW)


def test_what_waits_is_judged_again_within_seconds_for_another_process_may_have_a_place() -> None:
    time = Time()
    fairness = FairShare(5, time)
    fairness.admit(FAST)
    slow_sends(fairness, time, SLOW, seconds=60)
    fairness.admit(FAST)
    fairness.admit(SLOW)
    assert all(0.1 <= fairness.admit(SLOW) <= 5.5 for _ in range(100))


def test_the_others_are_delivered_while_one_waits_for_its_provider(world: World, sink: Sink) -> None:
    """As many messages as there are slots hang at a provider; the others' are all delivered before one of them ends."""
    fast = world.organization
    world.provider(sink.host, sink.port)
    world.organization = uuid4()
    world.provider(sink.host, sink.port)
    hanging = [world.message(f"slow-{n}", emailAddress=f"freeze+{n}@example.com") for n in range(30)]
    world.organization = fast
    others = [world.message(f"fast-{n}", emailAddress=f"ok+{n}@example.com") for n in range(60)]
    world.add(*hanging, *others)

    async def run() -> Counter[str]:
        engine = world.engine(until_empty=False)
        running = asyncio.ensure_future(engine.run())
        while not running.done() and Counter(world.states().values())["sent"] < 60:  # noqa: ASYNC110 - no bell rings
            await asyncio.sleep(0.05)
        states = Counter(world.states().values())
        engine.stop()
        await running
        return states

    states = asyncio.run(asyncio.wait_for(run(), 30))
    assert states["sent"] == 60
    assert 0 < states["sending"] <= 10
    assert states["ambiguous"] == 0, "a slow message has ended before the others were delivered"


def test_a_message_in_anothers_lane_stops_neither(world: World, sink: Sink) -> None:
    """Template data can look like another organization's id: the job is moved before anything of it counts."""
    other = world.organization
    world.provider(sink.host, sink.port)
    world.organization = uuid4()
    world.provider(sink.host, sink.port)
    crafted = [
        {
            "templateData": {"organizationId": str(other)},
            **world.message(f"x-{n}", emailAddress=f"freeze+{n}@example.com"),
        }
        for n in range(15)
    ]
    hanging = [world.message(f"slow-{n}", emailAddress=f"freeze+s{n}@example.com") for n in range(10)]
    world.organization = other
    others = [world.message(f"fast-{n}", emailAddress=f"ok+{n}@example.com") for n in range(60)]
    world.add(*hanging, *crafted, *others)

    async def run() -> None:
        engine = world.engine(until_empty=False)
        running = asyncio.ensure_future(engine.run())
        while not running.done() and Counter(world.states().values())["sent"] < 60:  # noqa: ASYNC110 - no bell rings
            await asyncio.sleep(0.05)
        engine.stop()
        await running

    asyncio.run(asyncio.wait_for(run(), 60))
    states = world.states()
    assert all(state == "sent" for name, state in states.items() if name.startswith("fast"))


def test_a_provider_with_few_places_is_no_trouble_and_gets_as_many_at_once() -> None:
    time = Time()
    fairness = FairShare(5, time)
    assert [fairness.admit(SLOW, 2) == 0 for _ in range(4)] == [True, True, False, False]
    assert fairness.admit(FAST) == 0
    assert fairness.leave(SLOW), "there is a place for those that wait"
    assert fairness.admit(SLOW, 2) == 0, "at once, without a pace"
    assert fairness.admit(SLOW) == 0, "its configuration has changed"


@pytest.mark.parametrize(
    ("value", "most"),
    [(3, 3), (" 3 ", 3), (2.5, 3), ("1e6", 1_000_000), *((no, None) for no in (0, "0", "", None, False))],
)
def test_connections_are_counted_as_nodemailer_does(value: object, most: int | None) -> None:
    assert max_connections({"maxConnections": value}) == most


def test_a_process_has_no_more_connections_to_a_server_than_it_may(world: World, sink: Sink) -> None:
    """Office 365 takes three; a hosted mailbox may take one."""
    world.provider(sink.host, sink.port, maxConnections="2")
    sink.behaviour.slow_seconds = 0.05
    world.add(*(world.message(f"d{number}", emailAddress=f"slow+{number}@example.com") for number in range(30)))
    world.deliver()
    assert set(world.states().values()) == {"sent"}
    assert (len(sink.messages()), sink.behaviour.peak_connections) == (30, 2)


def test_what_waits_for_a_connection_takes_no_place_of_others(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port, maxConnections=1)
    sink.behaviour.slow_seconds = 1.0
    world.add(*(world.message(f"d{number}", emailAddress=f"slow+{number}@example.com") for number in range(5)))
    world.organization = other = uuid4()
    world.provider(sink.host, sink.port)
    world.add(*(world.message(f"e{number}") for number in range(10)))
    world.deliver()
    assert set(world.states().values()) == {"sent"}
    order = [row["organization_id"] == other for row in sorted(world.ledger(), key=lambda row: row["sending_at"])]
    assert order.index(True) < 2
    assert sum(order[:14]) == 10, "the other one's have gone before the last that waits for the only connection"
