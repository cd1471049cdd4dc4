"""Rows that the ledger adds to the platform's suppression list."""

import json
from threading import Thread

import pytest

from mauntic_jobs.sql import statements
from mauntic_jobs.stores.postgres.session import connect
from tests.delivery.ledger_calls import RESEND_AFTER, claim, record
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.support import wait_until

_sql = statements("deliveries")


def test_two_processes_that_hear_of_a_bounce_at_once_suppress_it_once(world: World) -> None:
    first, second = (claim(world, name, address="Ann@Example.com") for name in ("d1", "d2"))
    result = {"n": 0, "organization_id": str(world.organization), "delivery_id": "d2", "fence": second["fence"]}
    results = json.dumps([{**result, "state": "failed", "reject": "bounced"}])
    parameters = {"results": results, "resend_after": RESEND_AFTER, "record_activity": False}

    def other() -> None:
        with connect(world.settings) as session:
            session.rows(_sql["record"], parameters)

    waits = b"SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
    with connect(world.settings) as watcher:
        thread = Thread(target=other)
        with world.session.transaction():
            record(world, first, "failed", "d1", reject="bounced")
            thread.start()
            wait_until(lambda: watcher.row(waits)["count"] == 1, "the second process waits for the first")
        thread.join()
    rows = world.session.rows(b"SELECT email, reason FROM delivery.suppressions")
    assert [(row["email"], row["reason"]) for row in rows] == [("ann@example.com", "bounce")]
    assert world.states() == {"d1": "failed", "d2": "failed"}


def test_an_address_that_was_taken_off_the_list_can_be_put_on_it_again(world: World) -> None:
    record(world, claim(world, "d1"), "failed", "d1", reject="bounced")
    world.write("DELETE FROM delivery.suppressions")
    record(world, claim(world, "d2"), "failed", "d2", reject="spam")
    rows = world.session.rows(b"SELECT email, reason FROM delivery.suppressions")
    assert [(row["email"], row["reason"]) for row in rows] == [("ann@example.com", "complaint")]


def test_an_address_with_odd_dots_is_quoted_for_smtp_and_kept_as_the_platform_writes_it(
    world: World, sink: Sink
) -> None:
    world.provider(sink.host, sink.port)
    world.add(world.message("d1", emailAddress="a..b@docomo.example"))
    world.deliver()
    (received,) = sink.messages()
    assert received.recipients == ('"a..b"@docomo.example',)
    assert b'To: "a..b"@docomo.example' in received.content
    (row,) = world.ledger()
    assert row["address"] == "a..b@docomo.example"
    sink.behaviour.at_recipient = lambda _: "550 5.1.1 no such user"
    world.add(world.message("d2", emailAddress="a..b@docomo.example"))
    world.deliver()
    known = world.session.rows(b"SELECT email FROM delivery.suppressions")
    assert known == [{"email": "a..b@docomo.example"}]
    world.add(world.message("d3", emailAddress='"a..b"@docomo.example'))
    world.deliver()
    assert world.states() == {"d1": "sent", "d2": "failed", "d3": "suppressed"}


@pytest.mark.parametrize("kept", ["ann@example.com", "\u200bann@example.com"])
def test_an_address_is_suppressed_with_the_invisible_characters_around_it_or_without(
    world: World, sink: Sink, kept: str
) -> None:
    world.provider(sink.host, sink.port)
    world.write(
        "INSERT INTO delivery.suppressions (organization_id, email, reason)"
        " VALUES (%(organization)s, %(email)s, 'manual')",
        email=kept,
    )
    world.add(world.message(emailAddress="\u200bann@example.com"))
    world.deliver()
    assert world.states() == {"d1": "suppressed"}
    assert sink.messages() == []
