"""Postgres refuses what is recorded of a message that is out already: it is not sent again, and the rest is owed."""

from typing import Any

import pytest

from mauntic_jobs.delivery.ledger.queries import show_delivery
from mauntic_jobs.delivery.ledger.reconcile import reconcile
from mauntic_jobs.stores.redis.client import open_redis
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.support import utc

_REFUSE = b"""
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN RAISE EXCEPTION 'the platform refuses %', TG_TABLE_NAME; END $$
"""

# A fault of the platform's tables, and its end.
FAULTS = {
    "a trigger on events": (
        b"CREATE TRIGGER refuse BEFORE INSERT ON delivery.delivery_events EXECUTE FUNCTION public.refuse()",
        b"DROP TRIGGER refuse ON delivery.delivery_events",
    ),
    "a trigger on campaigns": (
        b"CREATE TRIGGER refuse BEFORE UPDATE OF sent_count ON delivery.delivery_jobs EXECUTE FUNCTION public.refuse()",
        b"DROP TRIGGER refuse ON delivery.delivery_jobs",
    ),
    "a constraint": (
        b"ALTER TABLE delivery.delivery_events ADD CONSTRAINT no CHECK (event_type <> 'sent') NOT VALID",
        b"ALTER TABLE delivery.delivery_events DROP CONSTRAINT no",
    ),
    "a shorter column": (
        b"ALTER TABLE delivery.delivery_events ALTER COLUMN provider_message_id TYPE varchar(10)",
        b"ALTER TABLE delivery.delivery_events ALTER COLUMN provider_message_id TYPE varchar(255)",
    ),
    "another column": (
        b"ALTER TABLE analytics.contact_activity RENAME COLUMN event_data TO details",
        b"ALTER TABLE analytics.contact_activity RENAME COLUMN details TO event_data",
    ),
    "no table of activity": (
        b"ALTER TABLE analytics.contact_activity RENAME TO activity",
        b"ALTER TABLE analytics.activity RENAME TO contact_activity",
    ),
}


def counts(world: World) -> tuple[int, int, str]:
    (row,) = world.session.rows(b"SELECT sent_count, failed_count, status FROM delivery.delivery_jobs")
    return row["sent_count"], row["failed_count"], row["status"]


def written(world: World) -> tuple[int, int]:
    """Return how many events and how many activities there are."""
    (row,) = world.session.rows(
        b"SELECT (SELECT count(*) FROM delivery.delivery_events) AS events,"
        b" (SELECT count(*) FROM analytics.contact_activity) AS activities"
    )
    return row["events"], row["activities"]


def reconciled(world: World) -> tuple[int, int]:
    redis = open_redis(world.settings)
    try:
        done = reconcile(world.session, redis, world.settings, utc("2026-11-26T12:00"))
    finally:
        redis.close()
    return done.recorded, done.refused


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_out_is_not_sent_again_and_the_rest_is_recorded_later(world: World, sink: Sink, fault: str) -> None:
    world.settings = world.settings.model_copy(update={"record_activity": True})
    world.provider(sink.host, sink.port)
    world.session.execute(_REFUSE)
    begin, end = FAULTS[fault]
    job, contact = str(world.campaign(1)), str(world.contact())
    world.session.execute(begin)
    world.add(world.message(jobId=job, contactId=contact, campaignId="c7"), ids=["j1"])
    world.deliver()
    assert (world.states(), world.jobs_in("completed"), len(sink.messages())) == ({"d1": "sent"}, ["j1"], 1)
    shown: Any = show_delivery(world.session, world.key("d1"), None)["unrecorded"]
    assert shown["error"]
    assert any(each.startswith("record: ") for each in world.said)
    assert counts(world)[0] == 0
    if fault in ("a trigger on events", "a constraint"):
        assert reconciled(world) == (0, 1)
    world.session.execute(end)
    world.add(world.message(jobId=job, contactId=contact), ids=["j2"])
    world.deliver()
    assert reconciled(world) == (1, 0)
    assert reconciled(world) == (0, 0)
    assert (counts(world), written(world), len(sink.messages())) == ((1, 0, "sent"), (1, 1), 1)
    assert world.ledger()[0]["unrecorded"] is None


def test_one_refused_result_costs_the_others_of_its_batch_nothing(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    bad = world.contact()
    world.session.execute(f"ALTER TABLE delivery.delivery_events ADD CHECK (contact_id <> '{bad}')".encode())
    job = str(world.campaign(12))
    contacts = [bad, *(world.contact() for _ in range(11))]
    world.add(*(world.message(f"d{n}", jobId=job, contactId=str(each)) for n, each in enumerate(contacts)))
    world.deliver()
    assert set(world.states().values()) == {"sent"}
    assert counts(world) == (11, 0, "sending")
    assert [row["delivery_id"].partition(".")[0] for row in world.ledger() if row["unrecorded"]] == ["d0"]


def test_a_refused_failure_that_is_sent_again_is_not_uncounted(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    world.session.execute(_REFUSE)
    begin, end = FAULTS["a trigger on events"]
    job, contact = str(world.campaign(2)), str(world.contact())
    world.write("UPDATE delivery.delivery_jobs SET failed_count = 1")
    world.session.execute(begin)
    sink.behaviour.recipients["policy-550"] = "policy-550"
    world.add(world.message(jobId=job, contactId=contact, emailAddress="policy-550@example.com"), ids=["j1"])
    world.deliver()
    assert (world.states(), counts(world)[1]) == ({"d1": "failed"}, 1)
    world.session.execute(end)
    sink.behaviour.recipients["policy-550"] = "slow"
    world.write("UPDATE mauntic_jobs.deliveries SET state = 'failed'")
    from tests.delivery.ledger.test_operator_commands import program

    done = program(world, "deliveries", "resolve", world.key("d1"), "--resend")
    assert done.returncode == 0, done.stderr
    world.deliver()
    assert (world.states(), counts(world)) == ({"d1": "sent"}, (1, 1, "partial"))


@pytest.mark.parametrize("length", [100, 112, 255])
def test_a_long_campaign_id_stops_nothing(world: World, sink: Sink, length: int) -> None:
    world.settings = world.settings.model_copy(update={"record_activity": True})
    world.provider(sink.host, sink.port)
    world.add(world.message(contactId=str(world.contact()), campaignId="c" * length))
    world.deliver()
    assert (world.states(), len(sink.messages()), written(world)) == ({"d1": "sent"}, 1, (1, 1))


def test_a_campaign_id_beyond_all_bounds_is_refused_before_anything_is_sent(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    world.add(world.message(campaignId="c" * 256), ids=["j1"])
    world.deliver()
    assert (world.ledger(), sink.messages(), world.jobs_in("failed")) == ([], [], ["j1"])
    assert "campaignId" in world.job("j1")["failedReason"]


def test_no_function_needs_md5() -> None:
    """Servers in FIPS mode do not have it."""
    from mauntic_jobs.migrations.files import migrations

    assert "md5(" not in migrations()[-1].sql.replace("Not md5()", "")
