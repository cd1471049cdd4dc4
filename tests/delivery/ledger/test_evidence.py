"""What the platform has heard of a message that may have been sent keeps it from being sent again."""

import asyncio
from uuid import UUID

import pytest

from mauntic_jobs.delivery.ledger.ledger import Ledger
from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.async_link import PostgresLink
from mauntic_jobs.stores.postgres.session import connect
from tests.delivery.ledger_calls import LEASE, RESEND_AFTER, SWEEP, claim, event, record
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.support import run_on_loop

# What the default of the platform's columns writes in connections of its own: ours are in UTC.
_LOCAL = "clock_timestamp() AT TIME ZONE (SELECT reset_val FROM pg_settings WHERE name = 'TimeZone')"

_sql = statements("deliveries")
_evidence_sql = statements("evidence")


def uncertain(world: World, contact: UUID, state: str, delivery: str = "d1", **fields: object) -> None:
    """Leave a delivery whose first exchange ended without an answer, and that then came to `state`."""
    own = {"contact_id": str(contact), **fields}
    record(world, claim(world, delivery, **own), "ambiguous", delivery)
    age(world)
    if state != "ambiguous":
        again = claim(world, delivery, **own, ready=False)
        assert again["granted"]
        record(world, again, state, delivery, wait=0.0 if state == "deferred" else None)


def age(world: World, minutes: int = 3) -> None:
    """Let everything in the ledger be some minutes older."""
    world.session.execute(
        b"UPDATE mauntic_jobs.deliveries SET until = until - %(ago)s::interval,"
        b" sending_at = sending_at - %(ago)s::interval, first_sending_at = first_sending_at - %(ago)s::interval",
        {"ago": f"{minutes} minutes"},
    )


def heard(world: World) -> list[str]:
    return [row["delivery_id"] for row in world.session.rows(_evidence_sql["evidence"], {"most": 10})]


@pytest.mark.parametrize("state", ["claimed", "deferred", "ambiguous"])
def test_evidence_counts_in_whatever_state_the_message_waits(world: World, state: str) -> None:
    contact = world.contact()
    uncertain(world, contact, state)
    assert heard(world) == []
    event(world, contact, metadata={"deliveryId": "d1"})
    assert heard(world) == ["d1"]
    asked = claim(world, contact_id=str(contact))
    assert (asked["granted"], asked["state"]) == (False, state)


@pytest.mark.parametrize("state", ["claimed", "deferred", "ambiguous"])
def test_without_evidence_it_is_sent_again(world: World, state: str) -> None:
    contact = world.contact()
    uncertain(world, contact, state)
    asked = claim(world, contact_id=str(contact))
    assert (asked["granted"], asked["state"], asked["possible_duplicate"]) == (True, "sending", True)


def test_evidence_counts_from_the_first_exchange_that_may_have_sent_it(world: World) -> None:
    contact = world.contact()
    job = world.campaign(1)
    uncertain(world, contact, "deferred", job_id=str(job))
    # The second exchange certainly sent nothing, hours later.
    age(world, 180)
    record(world, claim(world, contact_id=str(contact), job_id=str(job)), "deferred", wait=0.0)
    # As the column's default writes it: on servers in another zone it counts only if it is later in both.
    event(world, contact, at=f"{_LOCAL} - interval '170 minutes'", job=job)
    assert heard(world) == ["d1"]
    assert not claim(world, contact_id=str(contact), job_id=str(job))["granted"]


def test_what_was_certainly_not_sent_needs_no_evidence(world: World) -> None:
    contact = world.contact()
    record(world, claim(world, contact_id=str(contact)), "deferred", wait=0.0)
    event(world, contact, metadata={"deliveryId": "d1"})
    assert claim(world, contact_id=str(contact))["granted"]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata", "Pacific/Kiritimati"])
def test_evidence_is_found_in_any_zone_of_the_platforms_clock(world: World, zone: str) -> None:
    contact, job = world.contact(), world.campaign(1)
    (row,) = world.session.rows(b"SELECT current_database() AS name")
    world.session.execute(f"ALTER DATABASE {row['name']} SET timezone = '{zone}'".encode())
    with connect(world.settings) as session:
        world.session = session
        uncertain(world, contact, "deferred", job_id=str(job))
        # Of another message of the campaign, hours before; the column's default writes local time.
        event(world, contact, at=f"{_LOCAL} - interval '3 hours'", job=job)
        # Each of our own transactions is in UTC.
        with session.transaction():
            assert heard(world) == []
        # It names the delivery.
        event(world, contact, at=_LOCAL, metadata={"deliveryId": "d1"})
        with session.transaction():
            assert heard(world) == ["d1"]


def test_what_is_recorded_late_waits_its_full_two_minutes(world: World) -> None:
    claimed = claim(world)
    age(world, 10)
    assert record(world, claimed, "ambiguous")["wait_seconds"] > 115


def test_a_process_that_is_found_dead_late_waits_its_full_two_minutes(world: World) -> None:
    claim(world)
    age(world, 10)
    world.session.rows(_sql["end_leases"], SWEEP)
    rows = world.session.rows(
        b"SELECT extract(EPOCH FROM until - clock_timestamp()) AS wait FROM mauntic_jobs.deliveries"
    )
    assert rows[0]["wait"] > 115
    assert LEASE < RESEND_AFTER


def test_a_deferred_message_of_which_the_platform_hears_is_not_sent_again(world: World, sink: Sink) -> None:
    """The line broke before the answer; at the next attempt the provider was down; then the webhook came."""
    contact = world.contact(email="cut-after-content@example.com")
    uncertain(world, contact, "deferred", world.key("d1"))
    world.provider(sink.host, sink.port)
    event(world, contact, metadata={"deliveryId": world.key("d1")}, message="<seen@acme.test>")
    world.add(world.message(contactId=str(contact)), ids=["j1"])
    world.deliver()
    assert (world.states(), sink.messages(), world.jobs_in("completed")) == ({"d1": "sent"}, [], ["j1"])


def test_the_campaign_of_what_evidence_settles_is_known(world: World, sink: Sink) -> None:
    world.settings = world.settings.model_copy(update={"record_activity": True})
    contact = world.contact()
    message = world.message(contactId=str(contact), campaignId="campaign-7")
    record(
        world,
        claim(world, world.key("d1"), contact_id=str(contact), campaign_id="campaign-7"),
        "ambiguous",
        world.key("d1"),
    )
    age(world)
    event(world, contact, metadata={"deliveryId": world.key("d1")})
    world.provider(sink.host, sink.port)
    world.add(message)
    world.deliver()
    with connect(world.settings) as session:
        rows = session.rows(b"SELECT event_source FROM analytics.contact_activity")
    assert (world.states(), rows) == ({"d1": "sent"}, [{"event_source": "campaign-7"}])


def _weigh(world: World) -> None:
    """Settle what is known of since, as a consumer does every half minute."""

    async def run() -> None:
        claims, records = PostgresLink(world.settings), PostgresLink(world.settings)
        assert await Ledger(claims, records, record_activity=False).weigh_evidence() == 1
        await asyncio.gather(claims.close(), records.close())

    run_on_loop(run())


@pytest.mark.parametrize(("engine", "is_double"), [(None, True), ("mauntic-jobs", False)])
def test_what_the_node_engine_has_sent_since_may_have_been_sent_twice(
    world: World, engine: str | None, is_double: bool
) -> None:
    contact, job = world.contact(), world.campaign(1)
    uncertain(world, contact, "ambiguous", job_id=str(job))
    event(world, contact, "sent", job=job, metadata={"engine": engine, "deliveryId": "d1"} if engine else {})
    _weigh(world)
    (row,) = world.ledger()
    assert (row["state"], row["possible_duplicate"]) == ("sent", is_double)
    assert ("may have sent it too" in row["reason"]) is is_double
