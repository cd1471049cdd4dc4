"""Marks in Redis that say that a message was processed: what each value means, and for whom."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from mauntic_jobs.errors import UnavailableError
from mauntic_jobs.stores.redis.async_link import RedisLink
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.world.corpus import Case, each_case

_COUNTS = b"SELECT sent_count, failed_count, status, completed_at IS NULL AS open FROM delivery.delivery_jobs"


def counts(world: World) -> tuple[int, int, str, bool]:
    (row,) = world.session.rows(_COUNTS)
    return row["sent_count"], row["failed_count"], row["status"], row["open"]


def give_up_in_node(world: World, delivery: str, job: str, contact: str, mark: str) -> None:
    """Leave what the Node engine leaves of a message that it gives up: an event, a count and a mark."""
    world.write(
        "INSERT INTO delivery.delivery_events (job_id, organization_id, contact_id, channel, event_type, metadata)"
        " VALUES (%(job)s, %(organization)s, %(contact)s, 'email', 'failed', '{\"error\": \"unsupported provider\"}')",
        job=job,
        contact=contact,
    )
    world.write("UPDATE delivery.delivery_jobs SET failed_count = failed_count + 1 WHERE id = %(job)s", job=job)
    world.ask("SET", world.mark(delivery), mark, "EX", 86_400)


@each_case("node_marks")
def test_a_mark_means_what_its_writer_meant(case: Case, world: World, sink: Sink) -> None:
    names = {"own": world.organization, "other": uuid4()}
    world.provider(sink.host, sink.port)
    if case.input:
        world.ask("SET", world.mark("d1"), case.input.format(**names), "EX", 86_400)
    world.add(world.message())
    world.deliver()
    assert world.states() == {"d1": case.answer["state"]}
    assert len(sink.messages()) == case.answer["mails"]
    assert world.ask("GET", world.mark("d1")).decode() == case.answer["mark"].format(**names)


@pytest.mark.parametrize("mark", ["failed", "warmup_limit"])
def test_a_failure_that_node_counted_is_taken_back_once_the_message_is_sent(
    mark: str, world: World, sink: Sink
) -> None:
    world.provider(sink.host, sink.port)
    job, contacts = str(world.campaign(3)), [str(world.contact()) for _ in range(3)]
    for n, contact in enumerate(contacts[:2]):
        give_up_in_node(world, f"d{n}", job, contact, mark)
    world.add(*(world.message(f"d{n}", jobId=job, contactId=contact) for n, contact in enumerate(contacts)))
    world.deliver()
    assert len(sink.messages()) == 3
    assert counts(world) == (3, 0, "sent", False)


@pytest.mark.parametrize("counted", [False, True])
def test_what_node_suppressed_is_one_failure_whether_node_counted_it_or_not(world: World, counted: bool) -> None:
    job, contact = str(world.campaign(1)), str(world.contact())
    if counted:
        give_up_in_node(world, "d1", job, contact, "suppressed")
    world.ask("SET", world.mark("d1"), "suppressed")
    world.add(world.message(jobId=job, contactId=contact))
    world.deliver()
    assert (world.states(), counts(world)) == ({"d1": "suppressed"}, (0, 1, "failed", False))


def test_what_node_failed_and_fails_again_is_one_failure(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    job, contact = str(world.campaign(1)), str(world.contact())
    give_up_in_node(world, "d1", job, contact, "failed")
    world.add(world.message(jobId=job, contactId=contact, emailAddress="policy-550@example.com"))
    world.deliver()
    assert counts(world) == (0, 1, "failed", False)


def test_a_job_that_node_gave_up_long_ago_is_counted_once_too(world: World, sink: Sink) -> None:
    """The mark has expired; the job that was asked for again says that it was tried."""
    world.provider(sink.host, sink.port)
    job, contact = str(world.campaign(1)), str(world.contact())
    give_up_in_node(world, "d1", job, contact, "failed")
    world.ask("DEL", world.mark("d1"))
    world.add(world.message(jobId=job, contactId=contact), ids=["j1"])
    world.ask("HSET", f"{world.base}:j1", "atm", 1)
    world.deliver()
    assert counts(world) == (1, 0, "sent", False)


def test_a_failure_of_our_own_is_not_taken_back_twice(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    job, contact = str(world.campaign(2)), str(world.contact())
    message = world.message(jobId=job, contactId=contact, emailAddress="drop-rcpt-once@example.com")
    world.add(message, ids=["j1"])
    world.write("UPDATE delivery.delivery_jobs SET failed_count = 1")
    world.deliver()
    assert counts(world) == (1, 1, "partial", False)


def test_a_campaign_whose_last_message_node_finished_is_closed(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    job = str(world.campaign(2))
    world.add(world.message("d1", jobId=job, contactId=str(world.contact())))
    world.deliver()
    world.write("UPDATE delivery.delivery_jobs SET sent_count = sent_count + 1")
    world.ask("SET", world.mark("d2"), "sent")
    world.add(world.message("d2", jobId=job, contactId=str(world.contact())))
    world.deliver()
    assert counts(world) == (2, 0, "sent", False)
    assert len(sink.messages()) == 1


def test_two_organizations_with_the_same_delivery_id_both_get_their_mail(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    world.add(world.message("order-1001-confirmation"))
    world.deliver()
    first, world.organization = world.organization, uuid4()
    world.provider(sink.host, sink.port)
    world.add(world.message("order-1001-confirmation"))
    world.deliver()
    assert {row["organization_id"]: row["state"] for row in world.ledger()} == {
        first: "sent",
        world.organization: "sent",
    }
    assert len({each.message_id for each in sink.messages()}) == 2


def test_the_ledger_decides_where_it_has_a_row_and_the_mark_is_our_own(world: World, sink: Sink) -> None:
    world.provider("127.0.0.1", 1)
    world.add(world.message())
    world.deliver()
    assert world.states() == {"d1": "deferred"}
    world.ask("SET", world.mark("d1"), f"mauntic-jobs:{world.organization}")
    world.provider(sink.host, sink.port, priority=1)
    world.hurry()
    world.deliver()
    assert (world.states(), len(sink.messages())) == ({"d1": "sent"}, 1)


def test_what_a_lost_ledger_had_counted_is_counted_again(world: World, sink: Sink) -> None:
    """Postgres was restored to before the message was sent: its counts are gone with its row."""
    world.provider(sink.host, sink.port)
    job = str(world.campaign(1))
    world.ask("SET", world.mark("d1"), f"mauntic-jobs:{world.organization}")
    world.add(world.message(jobId=job, contactId=str(world.contact())))
    world.deliver()
    (row,) = world.ledger()
    assert (row["state"], row["reason"]) == ("sent", "its mark in Redis says that it was sent")
    assert (counts(world), sink.messages()) == ((1, 0, "sent", False), [])


def test_a_mark_that_nothing_writes_waits_for_a_human(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    world.ask("SET", world.mark("d1"), "1")
    world.add(world.message(), ids=["j1"])
    world.deliver()
    (row,) = world.ledger()
    assert (row["state"], row["until"]) == ("ambiguous", None)
    assert row["reason"] == f"{world.mark('d1')} in Redis has a value that the Node engine does not write"
    assert world.jobs_in("failed") == ["j1"]


@pytest.mark.parametrize(("lost", "written"), [(False, 1), (True, 2)])
def test_a_mark_is_written_before_the_result_and_again_only_if_redis_did_not_confirm_it(
    world: World, sink: Sink, monkeypatch: pytest.MonkeyPatch, lost: bool, written: int
) -> None:
    begin, sets = RedisLink.begin, []

    def watched(link: RedisLink, *words: Any) -> asyncio.Future[Any]:
        if words[:2] != ("SET", world.mark("d1")):
            return begin(link, *words)
        sets.append([row["state"] for row in world.ledger()])
        if lost and len(sets) == 1:
            future = asyncio.get_running_loop().create_future()
            future.set_exception(UnavailableError("Redis went away."))
            future.exception()
            return future
        return begin(link, *words)

    monkeypatch.setattr(RedisLink, "begin", watched)
    world.provider(sink.host, sink.port)
    world.add(world.message("d1"))
    world.deliver()
    assert sets == [["sending"], ["sent"]][:written]
    assert world.ask("GET", world.mark("d1"))
