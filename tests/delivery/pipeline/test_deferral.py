"""Messages that a receiver wants later: when they are tried again, and what that costs."""

from datetime import UTC, datetime, timedelta

import pytest

from mauntic_jobs.delivery.pipeline.deferral import SCHEDULE_SECONDS, wait_of
from mauntic_jobs.job import Row
from mauntic_jobs.settings.types import ChannelSettings
from tests.delivery.sink import Sink
from tests.delivery.world import World


@pytest.fixture
def ready(world: World, sink: Sink) -> World:
    """Return a world whose provider is the sink."""
    world.provider(sink.host, sink.port)
    return world


def one(world: World) -> Row:
    (row,) = world.ledger()
    return row


def wait(row: Row) -> float:
    """Return for how many seconds the row waits from now on."""
    return float((row["until"] - datetime.now(UTC)).total_seconds())


def test_the_schedule_is_that_of_receivers() -> None:
    assert [each / 60 for each in SCHEDULE_SECONDS] == [1, 5, 15, 30, 60]
    for deferrals in range(10):
        step = SCHEDULE_SECONDS[min(deferrals, 4)]
        assert all(step <= wait_of(deferrals, None) <= 1.5 * step for _ in range(20))
    assert wait_of(0, 300) >= 300
    assert wait_of(4, 30) >= 3600


@pytest.mark.parametrize("script", ["defer-451", "data-451"])
def test_a_message_is_deferred_longer_each_time_and_spends_no_attempt(ready: World, script: str) -> None:
    ready.add(ready.message(emailAddress=f"{script}@example.com"), ids=["j1"])
    for number in range(7):
        ready.deliver()
        row, step = one(ready), SCHEDULE_SECONDS[min(number, 4)]
        assert (row["state"], len(row["attempts"])) == ("deferred", number + 1)
        assert step - 30 < wait(row) <= 1.5 * step
        assert ready.jobs_in("delayed") == ["j1"]
        assert ready.job("j1").get("atm", "0") == "0"
        ready.hurry()
    assert row["reason"].startswith("the receiver asks to wait: the ")
    assert {(each["outcome"], each["blame"]) for each in row["attempts"]} == {("deferred", "wait")}
    assert ready.reported[-1][0] == "deferred"


def test_a_message_that_is_taken_after_a_wait_is_sent_once(ready: World, sink: Sink) -> None:
    job = str(ready.campaign(1))
    ready.add(ready.message(jobId=job, emailAddress="defer-once-451@example.com"), ids=["j1"])
    ready.deliver()
    assert ready.states() == {"d1": "deferred"}
    assert ready.session.rows(b"SELECT sent_count + failed_count AS counted FROM delivery.delivery_jobs") == [
        {"counted": 0}
    ]
    ready.hurry()
    ready.deliver()
    assert ready.states() == {"d1": "sent"}
    assert len(sink.messages()) == 1
    assert ready.jobs_in("completed") == ["j1"]


def test_a_receiver_that_names_a_time_is_waited_for_as_long(ready: World, sink: Sink) -> None:
    sink.behaviour.at_recipient = lambda _: "450 4.7.1 Greylisted, please retry in 20 minutes"
    ready.add(ready.message())
    ready.deliver()
    assert 1170 < wait(one(ready)) <= 1800


def test_a_message_waits_no_longer_than_messages_may_become(ready: World, sink: Sink) -> None:
    ready.add(ready.message(emailAddress="defer-451@example.com"), ids=["j1"])
    ready.deliver()
    ready.hurry()
    # Lost connections have spent attempts before: they do not keep it for ever.
    ready.ask("HSET", f"{ready.base}:j1", "atm", 2)
    ready.deliver(max_age=timedelta(0))
    row = one(ready)
    assert row["state"] == "expired"
    assert row["reason"] == (
        "it was 0 h old when its turn came (limit 0s); "
        "the receiver asks to wait: the recipient was refused: 451 4.3.0 try again later"
    )
    assert sink.messages() == []


def test_deferrals_and_lost_connections_are_counted_apart(ready: World, sink: Sink) -> None:
    policy = ChannelSettings(attempts=2, retry_delay=timedelta(milliseconds=1))
    ready.settings = ready.settings.model_copy(update={"channels": {"email": policy}})
    ready.add(ready.message(emailAddress="ann@example.com"), ids=["j1"])
    ready.ask("HSET", f"{ready.base}:j1", "opts", "{}")
    sink.behaviour.recipients["ann"] = "defer-451"
    for _ in range(3):
        ready.deliver()
        ready.hurry()
    sink.behaviour.recipients["ann"] = "drop-rcpt"
    ready.deliver()
    row = one(ready)
    assert [each["outcome"] for each in row["attempts"]] == ["deferred"] * 3 + ["temporary"] * 2
    assert row["reason"].startswith("given up after 2 attempts: 127.0.0.1: the connection was")


def test_a_relay_with_a_limit_of_its_own_costs_no_message(ready: World, sink: Sink) -> None:
    taken: list[str] = []

    def limited(address: str) -> str | None:
        if len(taken) >= 10:
            return "450 4.7.1 Error: too much mail from 127.0.0.1"
        taken.append(address)
        return None

    sink.behaviour.at_recipient = limited
    ready.add(*(ready.message(f"d{n:02}", emailAddress=f"a{n}@example.com") for n in range(40)))
    for _ in range(4):
        taken.clear()
        ready.deliver(drain_timeout=timedelta(seconds=2))
        ready.hurry()
    assert set(ready.states().values()) == {"sent"}
    assert len(sink.messages()) == 40


def test_another_organizations_delivery_of_the_same_id_is_not_counted(ready: World) -> None:
    ready.add(ready.message(emailAddress="defer-451@example.com"))
    ready.deliver()
    ready.write(
        "INSERT INTO mauntic_jobs.deliveries"
        " (organization_id, delivery_id, channel, state, until, reason, queue_job, owner, attempts)"
        " SELECT gen_random_uuid(), delivery_id, channel, state, until, reason, queue_job, owner,"
        " jsonb_build_array(attempts -> 0, attempts -> 0, attempts -> 0) FROM mauntic_jobs.deliveries"
    )
    ready.hurry()
    ready.deliver()
    own = next(row for row in ready.ledger() if row["organization_id"] == ready.organization)
    assert 270 < wait(own) <= 450
