"""Watching: what is over a threshold is alerted once, and is over once."""

import json
import signal
import subprocess
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from mauntic_jobs.alerts.alert import Severity
from mauntic_jobs.alerts.notify import Notified
from mauntic_jobs.cli.dlq import watch as dlq_watch
from mauntic_jobs.ops.dead_letters.alerts import alert, alerts_of
from mauntic_jobs.ops.dead_letters.store import DeadLetters
from mauntic_jobs.ops.dead_letters.survey import look
from mauntic_jobs.ops.dead_letters.thresholds import Thresholds
from mauntic_jobs.runner import claim as claims
from tests.delivery.world import World
from tests.ops.dead_letters.failing import EMAIL, STEPS, fail_jobs, hours_ago, program
from tests.support import command, day, environment, request

FEW = Thresholds(depth=2, growth=1)


def alerts(world: World) -> list[tuple[str, bool]]:
    """Return the key of each alert, and whether it is over."""
    rows = world.session.rows(b"SELECT fingerprint, closed_at FROM mauntic_jobs.alerts ORDER BY id")
    return [(row["fingerprint"].partition(":")[2].rpartition("/")[0], row["closed_at"] is not None) for row in rows]


def test_queues_and_runs_are_counted_and_only_those_over_a_threshold_are_read(
    world: World, box: Callable[[], DeadLetters]
) -> None:
    fail_jobs(world, [("old", {}, "x")], at=hours_ago(3))
    fail_jobs(world, [("new1", {}, "y 1"), ("new2", {}, "y 2")])
    fail_jobs(world, [("step", {}, "z")], queue=STEPS)
    claim = claims.acquire(world.session, request(world.settings, day("2026-10-01"), "generate-daily-reports"), 1)
    claims.fail(world.session, claim, "it broke")
    seen = look(box(), FEW)
    counts = {each.queue: (each.depth, each.growth) for each in seen.standings if each.depth}
    assert counts == {EMAIL: (3, 2), STEPS: (1, 1), "run": (1, 1)}
    assert [(each.queue, each.measure.value) for each in seen.findings] == [(EMAIL, "depth"), (EMAIL, "growth")]
    (found,) = alerts_of(seen)
    assert (list(seen.groups), found.severity, found.details["count"]) == ([EMAIL], Severity.ERROR, 2)
    assert found.summary.startswith(f"{EMAIL}: 3 dead letters (limit 2); 2 new within 1h (limit 1)")
    assert found.summary.endswith("Most of them: y <n>")


def test_an_alert_is_raised_once_and_over_once_nothing_is_over_a_threshold(
    world: World, box: Callable[[], DeadLetters]
) -> None:
    fail_jobs(world, [(f"a{n}", {}, f"x {n}") for n in range(3)])
    for _ in range(2):
        alert(box(), look(box(), FEW))
    assert alerts(world) == [(EMAIL, False)]
    # Another kind of error is in front: an alert of its own, and the first is not over.
    fail_jobs(world, [(f"b{n}", {}, "y") for n in range(4)])
    alert(box(), look(box(), FEW))
    assert alerts(world) == [(EMAIL, False), (EMAIL, False)]
    assert program(world, "dlq", "discard", "--queue", EMAIL, "--yes").exit_code == 0
    alert(box(), look(box(), FEW))
    assert alerts(world) == [(EMAIL, True), (EMAIL, True)]


def test_no_address_leaves_in_an_alert(world: World, box: Callable[[], DeadLetters]) -> None:
    fail_jobs(world, [("a", world.message(), "no mailbox ann@example.com, +15550100123")], at=hours_ago(30))
    (found,) = alerts_of(look(box(), Thresholds()))
    assert "ann@" not in str(found)
    assert "5550100123" not in str(found)


def test_one_look_tells_by_its_exit_code(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_jobs(world, [("a", {}, "x"), ("b", {}, "x")], at=hours_ago(2))
    quiet = program(world, "dlq", "watch", "--once", "--json")
    assert (quiet.exit_code, quiet.stderr) == (0, "")
    assert {"queue": STEPS, "depth": 0, "growth": 0, "oldest": None, "recipients": None} in json.loads(quiet.stdout)[
        "queues"
    ]
    over = program(world, "dlq", "watch", "--once", "--depth", "1", "--window", "3h", "--growth", "1", "--age", "90m")
    assert over.exit_code == 1
    assert [line.partition(":")[0] for line in over.stderr.splitlines()] == ["delivery"] * 3
    monkeypatch.setattr(dlq_watch, "alert", lambda *_: Notified((), {"dead letters:x": "no channel answers"}))
    untold = program(world, "dlq", "watch", "--once")
    assert (untold.exit_code, untold.stderr) == (
        74,
        "no channel took the alert dead letters:x: no channel answers\n",
    )


def test_it_looks_again_until_it_is_stopped(world: World) -> None:
    settings = world.settings
    assert settings.redis_url
    variables = environment(
        settings, REDIS_URL=settings.redis_url.get_secret_value(), MAUNTIC_QUEUE_PREFIX=settings.queue_prefix
    )
    arguments = command("dlq", "watch", "--interval", "0.05s", "--json")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=variables) as process:
        assert process.stdout
        looks: list[Any] = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert [len(each["findings"]) for each in looks] == [0, 0, 0]


def test_a_window_is_as_long_as_it_says(world: World, box: Callable[[], DeadLetters]) -> None:
    fail_jobs(world, [("a", {}, "x")], at=hours_ago(1.01))
    fail_jobs(world, [("b", {}, "x")], at=hours_ago(0.99))
    counts = {each.queue: each.growth for each in look(box(), Thresholds(window=timedelta(hours=1))).standings}
    assert counts[EMAIL] == 1


def refuse(world: World, messages: int, answer: str, reject: str, *, more: int = 0) -> None:
    """Let messages fail in the ledger and on the queue, and `more` letters for another reason."""
    names = [f"r{n}" for n in range(messages)]
    fail_jobs(world, [(name, world.message(name), f"{answer} {name}@example.com") for name in names])
    world.write(
        "INSERT INTO mauntic_jobs.deliveries (organization_id, delivery_id, channel, state, reject_reason, queue_job,"
        " owner) SELECT %(organization)s, name, 'email', 'failed', %(reject)s, 'j', gen_random_uuid()"
        " FROM unnest(%(names)s::text[]) AS name",
        names=[world.key(name) for name in names],
        reject=reject,
    )
    fail_jobs(world, [(f"o{n}", world.message(f"o{n}"), "it broke") for n in range(more)])


def test_recipients_that_do_not_exist_are_counted_and_raise_nothing(
    world: World, box: Callable[[], DeadLetters]
) -> None:
    refuse(world, 30, "550 5.1.1 no such user", "bounced")
    seen = look(box(), FEW)
    (standing,) = [each for each in seen.standings if each.queue == EMAIL]
    assert (standing.depth, standing.growth, standing.oldest, standing.recipients) == (0, 0, None, 30)
    assert (seen.findings, alerts_of(seen)) == ([], [])


@pytest.mark.parametrize(("reject", "letters"), [("bounced", 3), ("unsubscribed", 3), ("spam", 3), ("blocked", 33)])
def test_other_letters_are_judged_without_them(
    world: World, box: Callable[[], DeadLetters], reject: str, letters: int
) -> None:
    refuse(world, 30, "550 no", reject, more=3)
    seen = look(box(), FEW)
    (standing,) = [each for each in seen.standings if each.queue == EMAIL]
    assert (standing.depth, standing.growth) == (letters, letters)
    (found,) = alerts_of(seen)
    assert found.summary.startswith(f"{EMAIL}: {letters} dead letters (limit 2)")


def test_a_condition_says_which_letters_are_watched_and_has_alerts_of_its_own(world: World) -> None:
    fail_jobs(world, [(f"a{n}", {}, f"x {n}") for n in range(5)])
    fail_jobs(world, [(f"b{n}", {}, "y") for n in range(2)])
    few = ("--depth", "1", "--growth", "100")
    over = program(world, "dlq", "watch", "--once", "--json", "--where", "error=y", *few)
    counts = {each["queue"]: each["depth"] for each in json.loads(over.stdout)["queues"]}
    assert (over.exit_code, counts[EMAIL]) == (1, 2)
    assert program(world, "dlq", "watch", "--once", "--where", "error~nothing", *few).exit_code == 0
    assert program(world, "dlq", "watch", "--once", *few).exit_code == 1
    rows = world.session.rows(b"SELECT fingerprint, closed_at FROM mauntic_jobs.alerts ORDER BY id")
    assert [row["fingerprint"].endswith(" where error=y") for row in rows] == [True, False]
    assert [row["closed_at"] for row in rows] == [None, None]
    program(world, "dlq", "discard", "--where", "error=y", "--yes")
    assert program(world, "dlq", "watch", "--once", "--where", "error=y", *few).exit_code == 0
    rows = world.session.rows(b"SELECT closed_at FROM mauntic_jobs.alerts ORDER BY id")
    assert [row["closed_at"] is None for row in rows] == [False, True]
