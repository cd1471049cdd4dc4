"""Processes that are killed while they send over an API: nothing is lost, and what may be doubled is named.

`scripts/chaos` runs the same with CHAOS=50, at every failpoint.
"""

import os
import random
import signal
from collections import Counter

import pytest

from tests.delivery import fake_fcm, fake_twilio
from tests.delivery.crash import account, age, counted, deliver_all, ended, start
from tests.delivery.failing import POINTS
from tests.delivery.fake_api import FakeApi, running_api
from tests.delivery.fake_fcm import FakeFcm
from tests.delivery.world import World

ROUNDS = int(os.environ.get("CHAOS", "1"))
MESSAGES = 20


# Where it hurts most.
@pytest.mark.parametrize(
    ("channel", "concurrency", "point"),
    [
        ("sms", 3, "after-content"),
        ("sms", 10, "before-record"),
        ("push", 3, "after-send"),
        ("push", 10, "after-content"),
    ],
)
def test_killed_while_it_sends_over_an_api(world: World, channel: str, concurrency: int, point: str) -> None:
    with running_api(FakeFcm() if channel == "push" else fake_twilio.answer) as api:
        total = kills = 0
        use(world, channel, api)
        for name in POINTS if ROUNDS > 1 else (point,):
            for hit in random.Random(name).sample(range(2, 11), min(9, ROUNDS)):
                add_to(world, channel, total, MESSAGES)
                total += MESSAGES
                status, errors = ended(start(world, "--drain", concurrency=concurrency, FAILPOINT=f"{name}:{hit}"))
                assert status == -signal.SIGKILL, errors
                kills += 1
                age(world)
        deliver_all(world)
        received = Counter(_recipients(channel, api))
    states = account(world, received, total, by="address", kills=kills, concurrency=concurrency)
    assert counted(world) == (states["sent"], 0)
    if channel == "sms":
        assert set(received.values()) == {1}
        assert states["ambiguous"] > 0
    else:
        # Only what was cut off again while it was sent once more is left to a human.
        assert all(row["resends"] == 1 for row in world.ledger() if row["state"] == "ambiguous")
        assert kills > 1 or states["ambiguous"] == 0
        assert any(row["possible_duplicate"] for row in world.ledger())


def use(world: World, channel: str, api: FakeApi) -> None:
    """Let the world's messages be of this channel, and go to the API."""
    world.channel = channel
    world.point(twilio=api.url, fcm=api.url, google_token=f"{api.url}/token")
    kind, config = ("twilio", fake_twilio.CONFIG) if channel == "sms" else ("fcm", fake_fcm.config())
    world.provider_of(channel, kind, config)


def add_to(world: World, channel: str, first: int, count: int) -> None:
    """Put the messages of a campaign on the queue, each for a recipient of its own."""
    own = {"jobId": str(world.campaign(count)), "contactId": str(world.contact())}
    field, address = ("phoneNumber", "+1500555{:04}") if channel == "sms" else ("deviceToken", "device-{}")
    world.add(*(world.message(f"d{n:04}", **{field: address.format(n)}, **own) for n in range(first, first + count)))


def _recipients(channel: str, api: FakeApi) -> list[str]:
    if channel == "sms":
        return [fields["To"] for fields in fake_twilio.sent(api)]
    return [message["token"] for message in fake_fcm.sent(api)]
