"""An organization whose messages take long does not hold up the others."""

import asyncio
from collections import Counter
from uuid import UUID, uuid4

from mauntic_jobs.delivery.fairness import Fairness
from tests.delivery.sink import Sink
from tests.delivery.world import World

SLOW, FAST = uuid4(), uuid4()


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def slow_send(fairness: Fairness, time: Time, organization: UUID, seconds: float = 2.0) -> None:
    with fairness.sending(organization):
        time.now += seconds


def admitted(fairness: Fairness, organization: UUID, tries: int) -> int:
    return sum(fairness.admit(organization) == 0 for _ in range(tries))


def test_an_organization_alone_has_everything_however_slow_it_is() -> None:
    time = Time()
    fairness = Fairness(10, time)
    slow_send(fairness, time, SLOW)
    assert admitted(fairness, SLOW, 15) == 10


def test_a_slow_organization_has_a_fifth_while_others_have_messages() -> None:
    time = Time()
    fairness = Fairness(10, time)
    slow_send(fairness, time, SLOW)
    assert admitted(fairness, FAST, 3) == 3
    assert admitted(fairness, SLOW, 15) == 2
    assert admitted(fairness, FAST, 15) == 7
    # Half a minute after the last slow message it is like the others.
    time.now += 31
    fairness.admit(FAST)
    assert admitted(fairness, SLOW, 15) == 8


def test_an_exchange_that_has_not_ended_makes_slow_as_well() -> None:
    time = Time()
    fairness = Fairness(5, time)
    assert admitted(fairness, FAST, 1) == 1
    assert admitted(fairness, SLOW, 1) == 1
    with fairness.sending(SLOW):
        assert admitted(fairness, SLOW, 1) == 1
        time.now += 1.5
        assert admitted(fairness, SLOW, 1) == 0


def test_what_waits_gets_turns_one_after_the_other_and_never_waits_for_longer_than_five_minutes() -> None:
    time = Time()
    fairness = Fairness(5, time)
    fairness.admit(FAST)
    slow_send(fairness, time, SLOW, 60)
    fairness.admit(SLOW)
    waits = [fairness.admit(SLOW) for _ in range(100)]
    assert waits[0] < waits[4]
    assert 300 <= max(waits) <= 330
    assert min(waits) >= 0.5


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
