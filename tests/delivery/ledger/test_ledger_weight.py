"""Costs of a message in the ledger: its content, writes to indexes, and rows that the sweep of leases reads."""

import json

import psycopg
import pytest
from psycopg.rows import dict_row

from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.connection import database_url
from mauntic_jobs.stores.postgres.session import Session
from tests.delivery.ledger.test_operator_commands import program
from tests.delivery.ledger_calls import LEASE, SWEEP, claim, record
from tests.delivery.sink import Sink
from tests.delivery.world import World, sent_by_node

_sql = statements("deliveries")


def lose_redis(world: World) -> None:
    for key in world.ask("KEYS", f"{world.settings.queue_prefix}:*"):
        world.ask("DEL", key.decode())


def end_lease(world: World) -> None:
    world.write("UPDATE mauntic_jobs.deliveries SET until = clock_timestamp() - interval '1 second'")


def test_the_ledger_has_the_content_of_what_was_not_sent_only(world: World, sink: Sink) -> None:
    first, second = world.message("d1"), world.message("d2", emailAddress="policy-550@example.com")
    world.add(first, second)
    world.deliver()
    assert [(row["state"], row["payload"]) for row in world.ledger()] == [("deferred", first), ("deferred", second)]
    world.provider(sink.host, sink.port)
    world.hurry()
    world.deliver()
    assert [(row["state"], row["payload"]) for row in world.ledger()] == [("sent", None), ("failed", second)]


def test_a_message_sent_at_once_writes_to_no_index_twice(world: World) -> None:
    with world.session.transaction():
        claimed = claim(world, contact_id=str(world.contact()), payload=None)
        assert record(world, claimed, "sent", attempts=[{"outcome": "sent"}], provider_message_id="1")["recorded"]
        counts = world.session.row(
            b"SELECT pg_stat_get_xact_tuples_updated(oid) AS updated, pg_stat_get_xact_tuples_hot_updated(oid) AS hot"
            b" FROM pg_class WHERE oid = 'mauntic_jobs.deliveries'::regclass"
        )
    assert counts == {"updated": 1, "hot": 1}


def test_the_plans_of_claims_and_results_are_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # With these statistics each call has a cheaper plan of its own than the one that is kept, as Postgres estimates it.
    sent_by_node(world, 5000)
    world.write("ANALYZE delivery.delivery_events")
    campaign, contact = world.campaign(50), world.contact()
    planned: list[str] = []
    with psycopg.connect(
        database_url(world.settings), row_factory=dict_row, cursor_factory=psycopg.ClientCursor, autocommit=True
    ) as connection:
        monkeypatch.setattr(world, "session", Session(connection))
        connection.execute("SET client_min_messages = log")
        for n in range(15):
            if n == 10:
                connection.execute("SET log_planner_stats = on")
                connection.add_notice_handler(lambda notice: planned.append(notice.message_primary or ""))
            claimed = claim(world, f"d{n}", payload=None, job_id=str(campaign), contact_id=str(contact))
            assert record(world, claimed, "sent", f"d{n}", attempts=[{"outcome": "sent"}])["recorded"]
    # Of each of the five claims and five results only the call itself, and the settings before it.
    assert planned == ["PLANNER STATISTICS"] * 20


def test_what_a_killed_process_had_claimed_is_kept_when_its_job_comes_back(world: World, sink: Sink) -> None:
    claim(world, world.key("d1"), payload=None)
    end_lease(world)
    world.add(world.message())
    world.deliver(drain_timeout=LEASE)
    assert world.states() == {"d1": "ambiguous"}
    lose_redis(world)
    assert json.loads(program(world, "deliveries", "reconcile", "--json").stdout)["queued"] == 1
    world.provider(sink.host, sink.port)
    world.hurry()
    world.deliver()
    assert (world.states(), len(sink.messages())) == ({"d1": "sent"}, 1)


def test_what_neither_store_has_is_named_and_not_owed_for_ever(world: World) -> None:
    job = str(world.campaign(3))
    for name, ready in (("d1", True), ("d2", False)):
        claim(world, world.key(name), payload=None, ready=ready, job_id=job)
    end_lease(world)
    world.session.rows(_sql["end_leases"], SWEEP)
    first, second = (json.loads(program(world, "deliveries", "reconcile", "--json").stdout) for _ in range(2))
    assert (first["owed"], first["lost"], first["queued"]) == (2, 2, 0)
    assert (second["owed"], second["lost"]) == (0, 0)
    rows = {row["delivery_id"]: row for row in world.ledger()}
    assert (rows[world.key("d1")]["state"], rows[world.key("d1")]["until"]) == ("ambiguous", None)
    assert (rows[world.key("d2")]["state"], rows[world.key("d2")]["counted"]) == ("failed", True)
    assert "only its producer can send it again" in rows[world.key("d2")]["reason"]


def test_what_was_being_sent_when_redis_and_the_process_died_is_put_back(world: World, sink: Sink) -> None:
    claim(world, world.key("d1"), payload=world.message("d1"))
    claim(world, world.key("d2"), payload=None)
    first = json.loads(program(world, "deliveries", "reconcile", "--json").stdout)
    assert (first["owed"], first["interrupted"], first["sending"]) == (0, 0, 2)
    end_lease(world)
    second = json.loads(program(world, "deliveries", "reconcile", "--json").stdout)
    assert (second["owed"], second["interrupted"], second["sending"]) == (2, 2, 0)
    assert (second["queued"], second["lost"]) == (1, 1)
    world.provider(sink.host, sink.port)
    world.hurry()
    world.deliver()
    assert (world.states(), len(sink.messages())) == ({"d1": "sent", "d2": "ambiguous"}, 1)


def test_the_sweep_reads_each_message_once(world: World) -> None:
    for name in ("d1", "d2", "d3"):
        record(world, claim(world, name), "sent", name)
    claim(world, "d4")
    world.write("UPDATE mauntic_jobs.deliveries SET claimed_at = claimed_at - interval '1 hour'")
    world.session.execute(_sql["swept"], {"lease": LEASE})
    swept = b"SELECT swept_to FROM mauntic_jobs.lease_sweep"
    claimed_at = world.session.row(b"SELECT claimed_at FROM mauntic_jobs.deliveries WHERE delivery_id = 'd4'")
    assert world.session.row(swept)["swept_to"] == claimed_at["claimed_at"]
    end_lease(world)
    assert len(world.session.rows(_sql["end_leases"], SWEEP)) == 1
    world.session.execute(_sql["swept"], {"lease": LEASE})
    assert world.session.row(swept)["swept_to"] > claimed_at["claimed_at"]


def test_a_claim_committed_after_the_sweep_had_passed_it_is_found_by_its_job(world: World) -> None:
    claim(world, world.key("d1"), payload=None)
    end_lease(world)
    world.write("UPDATE mauntic_jobs.deliveries SET claimed_at = claimed_at - interval '1 hour'")
    world.write("UPDATE mauntic_jobs.lease_sweep SET swept_to = clock_timestamp() - interval '1 minute'")
    assert world.session.rows(_sql["end_leases"], SWEEP) == []
    world.add(world.message())
    world.deliver()
    assert len(world.session.rows(_sql["end_leases"], SWEEP)) == 1
    assert world.states() == {"d1": "ambiguous"}


@pytest.mark.parametrize("command", [("deliveries", "reconcile"), ("recover", "--yes")], ids=" ".join)
def test_a_claim_that_the_sweep_had_passed_and_whose_job_redis_lost_is_put_back(
    world: World, sink: Sink, command: tuple[str, ...]
) -> None:
    claim(world, world.key("d1"), payload=world.message("d1"))
    world.write("UPDATE mauntic_jobs.deliveries SET claimed_at = claimed_at - interval '30 minutes'")
    world.write("UPDATE mauntic_jobs.lease_sweep SET swept_to = clock_timestamp() - interval '1 minute'")
    first = json.loads(program(world, *command, "--json").stdout)
    assert (first["owed"], first["sending"]) == (0, 1)
    end_lease(world)
    second = json.loads(program(world, *command, "--json").stdout)
    assert (second["owed"], second["sending"]) == (1, 0)
    world.provider(sink.host, sink.port)
    world.hurry()
    world.deliver()
    assert (world.states(), len(sink.messages())) == ({"d1": "sent"}, 1)
