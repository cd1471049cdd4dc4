"""Retrying dead letters: everything once more, nothing twice."""

import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mauntic_jobs.cli.dlq import confirm as dlq_acting
from mauntic_jobs.delivery.ledger import reopen as reopening
from mauntic_jobs.errors import Interrupted
from mauntic_jobs.ops.dead_letters import failed_set, retry as retrying
from mauntic_jobs.ops.dead_letters.batch_action import Fate
from mauntic_jobs.ops.dead_letters.store import DeadLetters
from mauntic_jobs.ops.rate_limit import Pace
from mauntic_jobs.runner import claim as claims
from tests.delivery.sink import Sink, running_sink
from tests.delivery.world import World
from tests.ops.dead_letters.failing import EMAIL, STEPS, fail_jobs, hours_ago, ids, milliseconds, program
from tests.support import command, day, environment, request, utc

REPORTS = "analytics:generate-daily-reports"


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    with running_sink(tmp_path) as running:
        yield running


def retried(world: World, *arguments: str, code: int = 0) -> Any:
    done = program(world, "dlq", "retry", *arguments, "--json")
    assert done.exit_code == code, done.stderr
    return json.loads(done.stdout)


def state(world: World, delivery: str, name: str) -> None:
    """Write a row of the ledger for a delivery."""
    world.write(
        "INSERT INTO mauntic_jobs.deliveries (organization_id, delivery_id, channel, state, queue_job, owner, payload)"
        " VALUES (%(organization)s, %(delivery)s, 'email', %(state)s, 'elsewhere', gen_random_uuid(), '{}')",
        delivery=world.key(delivery),
        state=name,
    )


def test_a_retried_job_has_all_its_attempts_again(world: World) -> None:
    fail_jobs(world, [("a", {"n": 1}, "x"), ("b", {}, "x")], queue=STEPS)
    base = f"{world.settings.queue_prefix}:{STEPS}"
    assert world.ask("HGET", f"{base}:a", "atm") == b"1"
    assert retried(world, f"{STEPS}/a")["done"] == 1
    assert (ids(world, "wait", STEPS), ids(world, "failed", STEPS)) == (["a"], ["b"])
    fields = world.ask("HMGET", f"{base}:a", "atm", "ats", "failedReason", "finishedOn", "data")
    assert fields == [None, None, None, None, b'{"n":1}']
    again = program(world, "dlq", "retry", f"{STEPS}/a")
    assert again.exit_code == 2


def test_a_delivery_that_failed_is_sent_once_it_can_be(world: World, sink: Sink) -> None:
    sink.behaviour.recipients["policy-550"] = "policy-550"
    world.provider(sink.host, sink.port)
    job = world.campaign(1)
    message = world.message(emailAddress="policy-550@example.com", jobId=str(job), contactId=str(world.contact()))
    world.add(message, ids=["j1"])
    world.deliver()
    assert ids(world, "failed") == ["j1"]
    world.ask("SET", world.mark("d1"), "node")
    assert retried(world, "--where", "error~550", "--yes")["done"] == 1
    (row,) = world.session.rows(b"SELECT failed_count, status, completed_at FROM delivery.delivery_jobs")
    assert (row["failed_count"], row["status"], row["completed_at"]) == (0, "sending", None)
    sink.behaviour.recipients["policy-550"] = "slow"
    world.deliver()
    assert world.states() == {"d1": "sent"}
    assert len(sink.messages()) == 1
    (row,) = world.session.rows(b"SELECT sent_count, failed_count, status FROM delivery.delivery_jobs")
    assert (row["sent_count"], row["failed_count"], row["status"]) == (1, 0, "sent")


def test_a_retry_passes_the_suppressions(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    world.add(world.message(emailAddress="reject-550@example.com"), ids=["j1"])
    world.deliver()
    # The bounce has put the address on the list.
    assert retried(world, "j1")["done"] == 1
    world.deliver()
    assert (world.states(), ids(world, "failed"), sink.messages()) == ({"d1": "suppressed"}, [], [])


def test_a_retried_delivery_is_as_young_as_its_retry(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    fail_jobs(world, [("old", world.message("d1"), "x")], at=hours_ago(100))
    assert retried(world, "old")["done"] == 1
    world.deliver()
    assert (world.states(), len(sink.messages())) == ({"d1": "sent"}, 1)


@pytest.mark.parametrize(
    ("stands", "reason"),
    [
        ("sent", "it was sent"),
        ("suppressed", "must not go to its recipient"),
        ("expired", "too old"),
        ("ambiguous", "deliveries resolve"),
    ],
)
def test_a_delivery_that_is_settled_or_in_doubt_is_refused(world: World, stands: str, reason: str) -> None:
    fail_jobs(world, [("a", world.message("d1"), "x")])
    state(world, "d1", stands)
    done = retried(world, "a", code=4)
    assert (done["done"], done["refused"]) == (0, 1)
    assert reason in done["kept"][0]["reason"]
    assert (ids(world, "failed"), ids(world, "wait"), world.states()) == (["a"], [], {"d1": stands})


@pytest.mark.parametrize("stands", ["claimed", "deferred", "sending"])
def test_a_delivery_that_is_open_is_left_to_the_ledger(world: World, stands: str) -> None:
    fail_jobs(world, [("a", world.message("d1"), "x")])
    state(world, "d1", stands)
    assert retried(world, "a")["done"] == 1
    assert (ids(world, "wait"), world.states()) == (["a"], {"d1": stands})


@pytest.mark.parametrize(
    ("mark", "reason"),
    [
        ("sent", "the Node engine has sent it"),
        ("suppressed", "the Node engine has suppressed it"),
        ("mauntic-jobs:{own}", "mauntic-jobs has sent it"),
        ("1", "delete it if you know"),
    ],
)
def test_what_may_have_been_sent_without_the_ledger_is_refused(world: World, mark: str, reason: str) -> None:
    fail_jobs(world, [("a", world.message("d1"), "x")])
    world.ask("SET", world.mark("d1"), mark.format(own=world.organization))
    assert reason in retried(world, "a", code=4)["kept"][0]["reason"]
    assert ids(world, "failed") == ["a"]


@pytest.mark.parametrize(
    "mark", ["failed", "warmup_limit", "mauntic-jobs", "mauntic-jobs:00000000-0000-0000-0000-000000000001"]
)
def test_a_mark_that_says_nothing_was_sent_stands_in_no_way(world: World, sink: Sink, mark: str) -> None:
    world.provider(sink.host, sink.port)
    fail_jobs(world, [("a", world.message("d1"), "x")])
    world.ask("SET", world.mark("d1"), mark)
    assert retried(world, "a")["done"] == 1
    world.deliver()
    assert (world.states(), len(sink.messages())) == ({"d1": "sent"}, 1)


def test_what_node_has_sent_meanwhile_is_refused(world: World) -> None:
    fail_jobs(world, [("a", world.message("d1"), "x")])
    state(world, "d1", "failed")
    world.ask("SET", world.mark("d1"), "sent")
    assert "the Node engine has sent it" in retried(world, "a", code=4)["kept"][0]["reason"]
    assert (world.states(), world.ask("GET", world.mark("d1"))) == ({"d1": "failed"}, b"sent")


def test_what_the_ledger_may_have_forgotten_is_refused(world: World) -> None:
    fail_jobs(world, [("old", world.message("d1"), "x")], at=hours_ago(3))
    fail_jobs(world, [("new", world.message("d2"), "x")], at=hours_ago(1))
    world.write("INSERT INTO mauntic_jobs.pruned VALUES ('deliveries', %(before)s)", before=hours_ago(2))
    done = retried(world, "--queue", EMAIL, "--yes", code=3)
    assert [each["id"] for each in done["kept"]] == [f"{EMAIL}/old"]
    assert ids(world, "wait") == ["new"]


def test_two_jobs_for_one_delivery_send_it_once(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    fail_jobs(world, [("a", world.message("d1"), "x"), ("b", world.message("d1"), "x")])
    state(world, "d1", "failed")
    assert retried(world, "a", "b", "--yes")["done"] == 2
    world.deliver()
    assert (world.states(), len(sink.messages()), ids(world, "failed")) == ({"d1": "sent"}, 1, [])


class _KilledError(BaseException):
    """As good as SIGKILL: nothing catches it."""


@pytest.mark.parametrize(
    ("module", "step", "place", "fate"),
    [
        (reopening, "_reopen", "before", Fate.DONE),
        (reopening, "_reopen", "after", Fate.DONE),
        (failed_set, "retry", "before", Fate.DONE),
        (failed_set, "retry", "after", Fate.GONE),
    ],
)
def test_a_retry_that_is_killed_can_be_repeated(
    world: World,
    box: Callable[[], DeadLetters],
    sink: Sink,
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    step: str,
    place: str,
    fate: Fate,
) -> None:
    world.provider(sink.host, sink.port)
    fail_jobs(world, [("a", world.message("d1"), "x"), ("b", world.message("d2"), "x")])
    for name in ("d1", "d2"):
        state(world, name, "failed")
        world.ask("SET", world.mark(name), "node")
    real = getattr(module, step)

    def kill(*arguments: Any) -> None:
        if place == "after":
            real(*arguments)
        raise _KilledError

    letters = [box().find("a"), box().find("b")]
    monkeypatch.setattr(module, step, kill)
    with pytest.raises(_KilledError):
        retrying.retry(box(), letters, print)
    monkeypatch.undo()
    assert [outcome.fate for outcome in retrying.retry(box(), letters, print)] == [fate] * 2
    world.deliver()
    assert (world.states(), len(sink.messages())) == ({"d1": "sent", "d2": "sent"}, 2)


def test_a_delivery_that_changed_meanwhile_is_refused(
    world: World, box: Callable[[], DeadLetters], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_jobs(world, [("a", world.message("d1"), "x")])
    state(world, "d1", "failed")
    real = reopening._standing

    def overtaken(*arguments: Any) -> Any:
        rows = real(*arguments)
        world.write("UPDATE mauntic_jobs.deliveries SET fence = fence + 1")
        return rows

    monkeypatch.setattr(reopening, "_standing", overtaken)
    (outcome,) = retrying.retry(box(), [box().find("a")], print)
    assert (outcome.fate, ids(world, "failed")) == (Fate.REFUSED, ["a"])


def test_a_job_that_failed_again_is_another_failure(world: World, box: Callable[[], DeadLetters]) -> None:
    fail_jobs(world, [("a", {}, "x")], queue=STEPS)
    letter = box().find("a")
    world.ask("ZADD", f"{world.settings.queue_prefix}:{STEPS}:failed", milliseconds(hours_ago(-1)), "a")
    (outcome,) = retrying.retry(box(), [letter], print)
    assert (outcome.fate, ids(world, "failed", STEPS)) == (Fate.GONE, ["a"])


def test_a_failed_run_is_run_again(world: World) -> None:
    claim = claims.acquire(world.session, request(world.settings, day("2026-10-01"), "generate-daily-reports"), 1)
    claims.fail(world.session, claim, "it broke")
    assert retried(world, f"run/{claim.id}")["done"] == 1
    last = world.session.row(b"SELECT * FROM mauntic_jobs.runs ORDER BY id DESC LIMIT 1")
    assert (last["status"], last["launcher"], last["window_start"]) == ("succeeded", "backfill", utc("2026-10-01"))
    assert program(world, "dlq", "retry", f"run/{claim.id}").exit_code == 2


def test_a_run_that_fails_again_exits_1_and_stays(world: World) -> None:
    options = {"options": {"org": [str(world.organization)]}}
    claim = claims.acquire(world.session, request(world.settings, day("2026-10-01"), "aggregate-hourly", **options), 1)
    claims.fail(world.session, claim, "it broke")
    done = retried(world, f"run/{claim.id}", code=1)
    assert "No organization" in done["kept"][0]["reason"]
    assert len(json.loads(program(world, "dlq", "list", "--jobs", "--json").stdout)) == 1


def test_the_slot_of_a_scheduled_job_is_free_again(world: World) -> None:
    slot = utc("2026-10-02T02:00")
    name = f"repeat:generate-daily-reports:{milliseconds(slot)}"
    asked = request(world.settings, day("2026-10-01"), "generate-daily-reports", slot=slot, claim_slot=True)
    claim = claims.acquire(world.session, asked, 1)
    fail_jobs(world, [("plain", {}, "x")], queue=REPORTS, name="generate-daily-reports", at=slot)
    world.ask(
        "RENAME", f"{world.settings.queue_prefix}:{REPORTS}:plain", f"{world.settings.queue_prefix}:{REPORTS}:{name}"
    )
    world.ask("DEL", f"{world.settings.queue_prefix}:{REPORTS}:failed")
    world.ask("ZADD", f"{world.settings.queue_prefix}:{REPORTS}:failed", milliseconds(slot), name)
    assert "is at its slot" in retried(world, f"{REPORTS}/{name}", code=4)["kept"][0]["reason"]
    claims.fail(world.session, claim, "it broke")
    assert retried(world, f"{REPORTS}/{name}")["done"] == 1
    (row,) = world.session.rows(b"SELECT status, claims_slot FROM mauntic_jobs.runs")
    assert (row["status"], row["claims_slot"], ids(world, "wait", REPORTS)) == ("failed", False, [name])


def test_a_slot_that_was_answered_is_not_run_again(world: World) -> None:
    slot = utc("2026-10-02T02:00")
    asked = request(world.settings, day("2026-10-01"), "generate-daily-reports", slot=slot, claim_slot=True)
    claims.succeed(world.session, claims.acquire(world.session, asked, 1), {}, None)
    fail_jobs(world, [("a", {}, "x")], queue=REPORTS, name="generate-daily-reports", at=slot)
    reason = retried(world, "a", code=4)["kept"][0]["reason"]
    assert "has answered its slot (succeeded)" in reason
    assert "--window 2026-10-01/2026-10-02" in reason


def test_many_need_a_yes_and_one_that_is_named_does_not(world: World) -> None:
    fail_jobs(world, [("a", {}, "x"), ("b", {}, "x"), ("c", {}, "y")], queue=STEPS)
    refused = program(world, "dlq", "retry", "--queue", STEPS)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "3 dead letters would be retried: add --yes" in refused.stderr
    assert program(world, "dlq", "retry", "a", "b").exit_code == 2
    rehearsed = program(world, "dlq", "retry", "--queue", STEPS, "--dry-run")
    assert rehearsed.stderr == "3 dead letters would be retried\n"
    assert rehearsed.stdout.startswith(f"2 x {STEPS}, ")
    assert ids(world, "failed", STEPS) == ["a", "b", "c"]
    assert program(world, "dlq", "retry", "--queue", STEPS, "--limit", "2", "--yes").stdout == "2 retried\n"
    assert ids(world, "failed", STEPS) == ["c"]
    assert program(world, "dlq", "retry", "c").stdout == "1 retried\n"
    assert program(world, "dlq", "retry", "--queue", STEPS).stdout == "0 retried\n"


def test_the_rate_is_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(dlq_acting, "Pace", lambda rate: Pace(rate, slept.append))
    fail_jobs(world, [(name, {}, "x") for name in "abcde"], queue=STEPS)
    assert retried(world, "--queue", STEPS, "--yes", "--rate", "2/m")["done"] == 5
    assert [round(seconds / 30) for seconds in slept] == [1, 2, 3, 4]


def test_what_was_done_before_a_signal_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise Interrupted(signal.SIGINT)

    monkeypatch.setattr(dlq_acting, "Pace", lambda rate: Pace(rate, interrupt))
    fail_jobs(world, [(name, {}, "x") for name in "abc"], queue=STEPS)
    done = program(world, "dlq", "retry", "--queue", STEPS, "--yes", "--rate", "1/s")
    assert (done.exit_code, done.stdout) == (130, "1 retried\n")
    assert ids(world, "failed", STEPS) == ["b", "c"]


@pytest.mark.parametrize(("answer", "left"), [(b"n\n", ["a", "b"]), (b"y\n", [])])
def test_a_person_at_a_terminal_is_asked(world: World, answer: bytes, left: list[str]) -> None:
    fail_jobs(world, [("a", {}, "x"), ("b", {}, "x")], queue=STEPS)
    settings = world.settings
    assert settings.redis_url
    variables = environment(
        settings, REDIS_URL=settings.redis_url.get_secret_value(), MAUNTIC_QUEUE_PREFIX=settings.queue_prefix
    )
    ours, theirs = pty.openpty()
    arguments = command("dlq", "retry", "--queue", STEPS)
    with subprocess.Popen(arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=variables) as process:
        os.close(theirs)
        os.write(ours, answer)
        shown = b""
        # Linux says that the other end was closed by an error.
        with suppress(OSError):
            while chunk := os.read(ours, 65_536):
                shown += chunk
    os.close(ours)
    assert process.returncode == 0
    assert b"Retry 2 dead letters? [y/N]:" in shown
    assert (b"Nothing was changed." in shown) is (left != [])
    assert ids(world, "failed", STEPS) == left
