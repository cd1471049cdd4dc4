"""Discarding dead letters: never without a copy, never anything else."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from mauntic_jobs.job import Row
from mauntic_jobs.ops.dead_letters import discard as discarding, failed_set
from mauntic_jobs.ops.dead_letters.batch_action import Fate
from mauntic_jobs.ops.dead_letters.store import DeadLetters
from mauntic_jobs.runner import claim as claims
from tests.delivery.ledger_calls import claim, record
from tests.delivery.world import World
from tests.ops.dead_letters.failing import EMAIL, STEPS, fail_jobs, ids, program
from tests.support import day, request


def kept(world: World) -> list[Row]:
    return world.session.rows(b"SELECT * FROM mauntic_jobs.discarded ORDER BY id")


def test_a_copy_stays_and_nothing_is_left_in_redis(world: World) -> None:
    message = world.message("d1", odd="\u00e9\u0000")
    fail_jobs(world, [("a", message, "no mailbox ann@example.com"), ("b", {}, "x")])
    done = program(world, "dlq", "discard", "--where", "error~mailbox", "--yes")
    assert (done.exit_code, done.stdout) == (0, "1 discarded\n"), done.stderr
    assert ids(world, "failed") == ["b"]
    assert world.ask("KEYS", f"{world.base}:a*") == []
    (row,) = kept(world)
    assert (row["queue"], row["job_id"], row["payload"]) == (EMAIL, "a", message)
    assert (row["reason"], row["attempts"]) == ("no mailbox <address>", 1)
    assert " on " in row["discarded_by"]
    assert row["failed_at"] <= row["discarded_at"]


@pytest.mark.parametrize("data", ["{broken", '{"n": NaN}', '"\\ud800"', ""])
def test_data_that_is_no_json_is_kept_as_it_is(world: World, data: str) -> None:
    fail_jobs(world, [("a", {}, "x")])
    world.ask("HSET", f"{world.base}:a", "data", data)
    assert program(world, "dlq", "discard", "a").exit_code == 0
    (row,) = world.session.rows(b"SELECT payload::text AS payload FROM mauntic_jobs.discarded")
    assert data in (row["payload"] or "").replace('\\"', '"')


class _KilledError(BaseException):
    """As good as SIGKILL: nothing catches it."""


def test_a_kill_between_the_copy_and_the_removal_loses_nothing(
    world: World, box: Callable[[], DeadLetters], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_jobs(world, [("a", {"n": 1}, "x")], queue=STEPS)
    letter = box().find("a")

    def kill(*_: Any) -> list[int]:
        raise _KilledError

    monkeypatch.setattr(failed_set, "remove", kill)
    with pytest.raises(_KilledError):
        discarding.discard(box(), [letter])
    monkeypatch.undo()
    assert (ids(world, "failed", STEPS), len(kept(world))) == (["a"], 1)
    assert [outcome.fate for outcome in discarding.discard(box(), [letter])] == [Fate.DONE]
    assert (ids(world, "failed", STEPS), len(kept(world))) == ([], 1)


def test_a_job_that_was_retried_meanwhile_is_not_removed(world: World, box: Callable[[], DeadLetters]) -> None:
    fail_jobs(world, [("a", {}, "x")], queue=STEPS)
    letter = box().find("a")
    assert program(world, "dlq", "retry", "a").exit_code == 0
    assert [outcome.fate for outcome in discarding.discard(box(), [letter])] == [Fate.GONE]
    assert ids(world, "wait", STEPS) == ["a"]


def test_the_next_job_of_a_scheduler_is_refused(world: World) -> None:
    fail_jobs(world, [("repeat:s:5000", {}, "x")], queue=STEPS)
    base = f"{world.settings.queue_prefix}:{STEPS}"
    world.ask("HSET", f"{base}:repeat:s:5000", "rjk", "s")
    world.ask("ZADD", f"{base}:repeat", 5000, "s")
    done = program(world, "dlq", "discard", f"{STEPS}/repeat:s:5000")
    assert (done.exit_code, done.stdout) == (4, "1 refused\n")
    assert "next job of its scheduler" in done.stderr
    assert len(ids(world, "failed", STEPS)) == 1


def test_a_discarded_run_stays_in_its_ledger_and_leaves_the_list(world: World) -> None:
    claim = claims.acquire(world.session, request(world.settings, day("2026-10-01"), "generate-daily-reports"), 1)
    claims.fail(world.session, claim, "it broke")
    assert program(world, "dlq", "discard", f"run/{claim.id}").stdout == "1 discarded\n"
    assert program(world, "dlq", "list").stderr == "0 dead letters\n"
    assert program(world, "runs", "show", str(claim.id)).exit_code == 0
    assert [(row["queue"], row["job_id"], row["name"]) for row in kept(world)] == [
        ("run", str(claim.id), "generate-daily-reports")
    ]


def owed(world: World, state: str, **fields: Any) -> None:
    """Let the ledger owe the delivery of the failed job "a", of a campaign of its own, in a state."""
    taken = claim(
        world, world.key("d1"), job_id=str(world.campaign(1)), queue_job="a", payload=world.message("d1"), **fields
    )
    if state == "ambiguous":
        record(world, taken, "ambiguous", world.key("d1"), wait=60)
    elif state == "deferred":
        record(world, taken, "deferred", world.key("d1"), wait=60)
    elif state == "claimed":
        world.write("UPDATE mauntic_jobs.deliveries SET state = 'claimed', until = NULL")
    elif state == "lost":
        world.write("UPDATE mauntic_jobs.deliveries SET until = clock_timestamp() - interval '1 second'")
    fail_jobs(world, [("a", world.message("d1"), "the claim took too long")])


def queued_again(world: World) -> int:
    done = json.loads(program(world, "deliveries", "reconcile", "--json").stdout)
    queued: int = done["queued"]
    return queued


@pytest.mark.parametrize(
    ("state", "after"),
    [("claimed", "failed"), ("deferred", "failed"), ("ambiguous", "ambiguous"), ("lost", "ambiguous")],
)
def test_what_was_discarded_is_owed_no_longer(world: World, state: str, after: str) -> None:
    owed(world, state)
    done = program(world, "dlq", "discard", f"{EMAIL}/a")
    assert (done.exit_code, done.stdout) == (0, "1 discarded\n"), done.stderr
    (row,) = world.ledger()
    assert (row["state"], row["until"]) == (after, None)
    assert row["reason"].startswith("discarded by ")
    assert queued_again(world) == 0
    (campaign,) = world.session.rows(b"SELECT failed_count, status FROM delivery.delivery_jobs")
    assert (campaign["failed_count"], campaign["status"]) == ((1, "failed") if after == "failed" else (0, "queued"))


def test_what_is_being_sent_is_not_discarded(world: World) -> None:
    owed(world, "sending")
    done = program(world, "dlq", "discard", f"{EMAIL}/a")
    assert done.exit_code == 4
    assert "it is being sent: look at it again in some minutes" in done.stderr
    assert (world.states(), ids(world, "failed")) == ({"d1": "sending"}, ["a"])


def test_a_delivery_that_another_job_asks_for_is_still_owed(world: World) -> None:
    owed(world, "claimed")
    assert queued_again(world) == 1
    assert program(world, "dlq", "discard", f"{EMAIL}/a").exit_code == 0
    assert (world.states(), len(ids(world, "wait"))) == ({"d1": "claimed"}, 1)


@pytest.mark.parametrize("odd", ["a\x00b", "\ud800"])
def test_an_id_that_no_ledger_can_hold_is_discarded_like_others(world: World, odd: str) -> None:
    fail_jobs(world, [("a", {**world.message("d1"), "deliveryId": odd}, "x")])
    assert program(world, "dlq", "discard", f"{EMAIL}/a").exit_code == 0
    assert ids(world, "failed") == []
