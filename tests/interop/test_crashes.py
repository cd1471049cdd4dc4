"""Crashes of the Node engine and of `deliver` on one queue: nothing is lost, and each doubled mail is named."""

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from functools import partial

import pytest

from tests.delivery.crash import age, deliver_all, ended, start
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.interop.node import HERE
from tests.support import run_program, wait_until

_MESSAGES = 12
_ROUNDS = int(os.environ.get("CHAOS", "1"))


def _node_engine(world: World, sink: Sink, package: str, point: str) -> "subprocess.Popen[str]":
    assert world.settings.redis_url
    url = world.settings.redis_url.get_secret_value()
    address = (package, f"{world.settings.queue_prefix}:delivery", "send-email", url, str(sink.port), point)
    command = ["node", "dying.mjs", *address]
    return subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _is_killed_at(world: World, sink: Sink, package: str, point: str) -> None:
    engine = _node_engine(world, sink, package, point)
    _, errors = engine.communicate(timeout=60)
    assert engine.returncode == -signal.SIGKILL, errors


def _backlog(world: World, count: int) -> None:
    messages = [world.message(f"d{n:03}", emailAddress=f"c{n:03}@example.com") for n in range(count)]
    world.add(*messages, ids=[f"j{n:03}" for n in range(count)])


def _received(sink: Sink, *, by_node: bool = True) -> Counter[str]:
    """Return how often each message arrived, by its delivery id; without `by_node`, from this program."""
    messages = [each for each in sink.messages() if by_node or not each.message_id.startswith("<node.")]
    return Counter(f"d{recipient[1:4]}" for message in messages for recipient in message.recipients)


def _named(world: World) -> set[str]:
    """Return the messages that an operator finds as perhaps sent twice, or once without a record."""
    rows = world.ledger()
    uncertain = [row for row in rows if row["possible_duplicate"] or row["state"] == "ambiguous"]
    return {row["delivery_id"].partition(".")[0] for row in uncertain}


def _moved(world: World, sink: Sink, before: int) -> bool:
    return len(sink.messages()) > before + 2 or not world.jobs_in("wait")


def _check(world: World, sink: Sink, count: int) -> None:
    """Check that every message arrived, and that those that arrived twice are named.

    What only Node's workers have sent twice among themselves, this program never had in hand.
    """
    received, ours = _received(sink), _received(sink, by_node=False)
    assert sorted(received) == [f"d{n:03}" for n in range(count)]
    doubled = {name for name, times in received.items() if times > 1 and ours[name]}
    assert doubled <= _named(world), doubled - _named(world)


@pytest.mark.parametrize(
    ("package", "point"),
    [("bullmq", "after-send"), ("bullmq-5", "after-send"), ("bullmq-5", "before-send"), ("bullmq", "after-mark")],
)
def test_what_a_killed_node_worker_had_in_hand_is_named(world: World, package: str, sink: Sink, point: str) -> None:
    _backlog(world, _MESSAGES)
    _is_killed_at(world, sink, package, f"{point}:5")
    in_hand = {f"d{job[1:]}" for job in world.jobs_in("active")}
    assert in_hand
    age(world)
    status, errors = ended(start(world, "--drain", "--drain-timeout=1s"))
    marked = {name for name in in_hand if world.ask("EXISTS", world.mark(name))}
    # They wait two minutes for what the platform may hear of them.
    waiting = {name for name, state in world.states().items() if state == "ambiguous"}
    assert waiting == in_hand - marked, errors
    assert status == (75 if waiting else 0)
    assert {row["reason"] for row in world.ledger() if row["state"] == "ambiguous"} <= {
        "a worker of another program died while it had it in hand"
    }
    deliver_all(world)
    _check(world, sink, _MESSAGES)
    assert _named(world) == in_hand - marked
    assert set(world.states().values()) == {"sent"}


def test_what_node_gave_up_because_its_workers_died_is_sent_from_the_dead_letters(
    world: World, package: str, sink: Sink
) -> None:
    _backlog(world, 4)
    for _ in range(2):
        _is_killed_at(world, sink, package, "before-send:1")
        age(world)
    # The next worker finds that they have stalled twice, and fails them as Node does: nothing was sent.
    engine = _node_engine(world, sink, package, "stay")
    wait_until(lambda: len(world.jobs_in("failed")) + len(sink.messages()) == 4, "Node to give them up", 60)
    engine.kill()
    engine.communicate()
    failed = world.jobs_in("failed")
    assert {world.job(job)["failedReason"] for job in failed} == {"job stalled more than allowable limit"}
    assert world.settings.database_url
    assert world.settings.redis_url
    done = run_program(
        *("dlq", "retry", *failed, "--yes"),
        DATABASE_URL=world.settings.database_url.get_secret_value(),
        REDIS_URL=world.settings.redis_url.get_secret_value(),
        MAUNTIC_QUEUE_PREFIX=world.settings.queue_prefix,
    )
    assert done.returncode == 0, done.stderr
    deliver_all(world)
    _check(world, sink, 4)
    assert _named(world) == {f"d{job[1:]}" for job in failed}


def test_a_death_of_this_program_before_its_claim_is_nothing_that_was_sent(world: World, sink: Sink) -> None:
    _backlog(world, _MESSAGES)
    status, errors = ended(start(world, "--drain", FAILPOINT="before-claim:3"))
    assert status == -signal.SIGKILL, errors
    unclaimed = {f"d{job[1:]}" for job in world.jobs_in("active")} - set(world.states())
    assert unclaimed
    age(world)
    deliver_all(world)
    _check(world, sink, _MESSAGES)
    assert not unclaimed & _named(world)


@pytest.mark.parametrize("point", ["before-record", "before-ack"])
def test_node_does_not_send_what_this_program_has_sent_and_died(
    world: World, package: str, sink: Sink, point: str
) -> None:
    _backlog(world, 1)
    ended(start(world, "--drain", FAILPOINT=f"{point}:1"))
    assert len(sink.messages()) == 1
    age(world)
    engine = _node_engine(world, sink, package, "stay")
    wait_until(lambda: world.jobs_in("completed") == ["j000"], "Node to finish the job")
    engine.kill()
    engine.communicate()
    world.add(world.message("d000", emailAddress="c000@example.com"), ids=["again"])
    deliver_all(world)
    assert len(sink.messages()) == 1
    assert world.states() == {"d000": "sent"}


def test_a_job_that_is_handed_back_can_be_lost_by_a_node_worker(world: World, package: str, sink: Sink) -> None:
    """What this program noted while it had the job in hand does not hide the death of the worker after it."""
    world.write("UPDATE delivery.provider_configs SET is_active = false WHERE organization_id = %(organization)s")
    _backlog(world, 2)
    ended(start(world, "--drain", "--drain-timeout=1s"))
    assert set(world.states().values()) == {"deferred"}
    world.write("UPDATE delivery.provider_configs SET is_active = true WHERE organization_id = %(organization)s")
    world.hurry()
    _is_killed_at(world, sink, package, "after-send:1")
    in_hand = {f"d{job[1:]}" for job in world.jobs_in("active")}
    deliver_all(world)
    _check(world, sink, 2)
    assert _named(world) == in_hand


def test_an_sms_that_a_killed_node_worker_had_in_hand_waits_for_a_human(world: World, package: str, sink: Sink) -> None:
    world.add(world.message("d000", emailAddress="c000@example.com"), ids=["j000"])
    _is_killed_at(world, sink, package, "after-send:1")
    # The same job on the queue of the other channel.
    world.ask("HSET", f"{world.base}:j000", "data", _as_sms(world))
    deliver_all(world)
    (row,) = world.ledger()
    assert (row["channel"], row["state"], row["until"]) == ("sms", "ambiguous", None)
    assert world.jobs_in("failed") == ["j000"]


def _as_sms(world: World) -> str:
    return json.dumps(world.message("d000", channel="sms", phoneNumber="+15005550006", body="Hello"))


def test_both_engines_are_killed_at_random(world: World, package: str, sink: Sink) -> None:
    dice = random.Random(11)
    total = 60 * _ROUNDS
    _backlog(world, total)
    for _ in range(3 * _ROUNDS):
        engine = _node_engine(world, sink, package, f"after-send:{dice.randrange(3, 8)}")
        ours = start(world)
        wait_until(partial(_moved, world, sink, len(sink.messages())), "messages")
        time.sleep(dice.uniform(0, 0.2))
        ours.kill()
        ended(ours)
        engine.kill()
        engine.communicate(timeout=60)
        age(world)
    deliver_all(world)
    _check(world, sink, total)
