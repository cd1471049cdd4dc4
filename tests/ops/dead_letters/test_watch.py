"""Dead letters that the monitor watches: what is over a threshold is alerted once, and is over once."""

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from typer.testing import Result

from mauntic_jobs.alerts.alert import Severity
from mauntic_jobs.ops.dead_letters.alerts import alerts_of
from mauntic_jobs.ops.dead_letters.store import DeadLetters
from mauntic_jobs.ops.dead_letters.survey import look_at_letters
from mauntic_jobs.runner import claim as claims
from mauntic_jobs.settings.types import DeadLetterLimits
from tests.delivery.world import World
from tests.ops.dead_letters.failing import EMAIL, STEPS, fail_jobs, hours_ago, program
from tests.support import day, request

FEW_OF_ALL: dict[str, object] = {"depth": 2, "growth": 1}
FEW = DeadLetterLimits(depth=2, growth=1)


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
    queues, runs = (look_at_letters(box(), FEW, of_runs=of_runs) for of_runs in (False, True))
    counts = {each.queue: (each.depth, each.growth) for each in [*queues.standings, *runs.standings] if each.depth}
    assert counts == {EMAIL: (3, 2), STEPS: (1, 1), "run": (1, 1)}
    assert runs.findings == []
    assert [(each.queue, each.measure.value) for each in queues.findings] == [(EMAIL, "depth"), (EMAIL, "growth")]
    (found,) = alerts_of(queues)
    assert (list(queues.groups), found.severity, found.details["count"]) == ([EMAIL], Severity.ERROR, 2)
    assert found.summary.startswith(f"{EMAIL}: 3 dead letters (limit 2); 2 new within 1h (limit 1)")
    assert found.summary.endswith("Most of them: y <n>")


def test_an_alert_is_raised_once_and_over_once_nothing_is_over_a_threshold(world: World) -> None:
    fail_jobs(world, [(f"a{n}", {}, f"x {n}") for n in range(3)])
    for _ in range(2):
        watch(world, FEW_OF_ALL)
    assert alerts(world) == [(EMAIL, False)]
    # Another kind of error is in front: an alert of its own, and the first is not over.
    fail_jobs(world, [(f"b{n}", {}, "y") for n in range(4)])
    watch(world, FEW_OF_ALL)
    assert alerts(world) == [(EMAIL, False), (EMAIL, False)]
    assert program(world, "dlq", "discard", "--queue", EMAIL, "--yes").exit_code == 0
    watch(world, FEW_OF_ALL)
    assert alerts(world) == [(EMAIL, True), (EMAIL, True)]


def test_no_address_leaves_in_an_alert(world: World, box: Callable[[], DeadLetters]) -> None:
    fail_jobs(world, [("a", world.message(), "no mailbox ann@example.com, +15550100123")], at=hours_ago(30))
    (found,) = alerts_of(look_at_letters(box(), DeadLetterLimits(), of_runs=False))
    assert "ann@" not in str(found)
    assert "5550100123" not in str(found)


def watch(world: World, *limits: dict[str, object], **extra: str) -> Result:
    """Run the monitor once with these limits."""
    return program(world, "monitor", "run", "--once", "--json", MAUNTIC_DEAD_LETTERS=json.dumps(limits), **extra)


def test_the_monitor_watches_with_the_thresholds_of_the_settings(world: World) -> None:
    fail_jobs(world, [("a", {}, "x"), ("b", {}, "x")], at=hours_ago(2))
    quiet = program(world, "monitor", "run", "--once", "--json")
    assert (quiet.exit_code, quiet.stderr, json.loads(quiet.stdout)["alerts"]) == (0, "", [])
    over = watch(world, {"depth": 1, "window": "3h", "growth": 1, "age": "90m"})
    (found,) = json.loads(over.stdout)["alerts"]
    assert (over.exit_code, found["cause"], found["severity"]) == (0, "dead letters", "error")
    limits = "2 dead letters (limit 1); 2 new within 3h (limit 1); the oldest failed on "
    assert found["summary"].startswith(f"{EMAIL}: {limits}")


def test_the_ledger_of_runs_is_watched_while_redis_is_away_and_the_exit_code_says_so(world: World) -> None:
    claim = claims.acquire(world.session, request(world.settings, day("2026-10-01"), "generate-daily-reports"), 1)
    claims.fail(world.session, claim, "it broke")
    fail_jobs(world, [("a", {}, "x")])
    assert watch(world, {"depth": 0}).exit_code == 0
    assert alerts(world) == [("run", False), (EMAIL, False)]
    away = {"REDIS_URL": "redis://127.0.0.1:1/0"}
    lost = watch(world, {"depth": 0}, **away)
    unknown = json.loads(lost.stdout)["unknown"]
    assert (lost.exit_code, {*unknown}) == (69, {"redis lost data", "consumer stuck", "dead letters"})
    assert "monitor: cannot tell of dead letters: Cannot reach Redis" in lost.stderr
    watch(world, {"depth": 1}, **away)
    # What Redis holds is not known.
    assert alerts(world) == [("run", True), (EMAIL, False)]


def test_a_condition_that_cannot_be_read_hides_no_other(world: World) -> None:
    fail_jobs(world, [("a", {}, "x")])
    done = watch(world, {"where": "colour=red"}, {"depth": 0})
    assert (done.exit_code, alerts(world)) == (78, [(EMAIL, False)])
    assert "The setting dead_letters cannot be used: Cannot read the condition: expected a field" in done.stderr


def test_a_call_of_an_earlier_version_says_what_to_write_instead(world: World) -> None:
    for options in (["--once", "--quiet"], ["--interval", "60s", "--depth", "500", "--where", "queue=run"], ["--help"]):
        done = program(world, "dlq", "watch", *options)
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.startswith("mauntic-jobs: `dlq watch` is a part of `monitor run`")
    named = json.loads(done.stderr.partition("MAUNTIC_DEAD_LETTERS='")[2].partition("'")[0])
    assert watch(world, *named).exit_code == 0
    assert "watch" not in program(world, "dlq", "--help").stdout


def test_a_window_is_as_long_as_it_says(world: World, box: Callable[[], DeadLetters]) -> None:
    fail_jobs(world, [("a", {}, "x")], at=hours_ago(1.01))
    fail_jobs(world, [("b", {}, "x")], at=hours_ago(0.99))
    hour = DeadLetterLimits(window=timedelta(hours=1))
    counts = {each.queue: each.growth for each in look_at_letters(box(), hour, of_runs=False).standings}
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
    seen = look_at_letters(box(), FEW, of_runs=False)
    (standing,) = [each for each in seen.standings if each.queue == EMAIL]
    assert (standing.depth, standing.growth, standing.oldest, standing.recipients) == (0, 0, None, 30)
    assert (seen.findings, alerts_of(seen)) == ([], [])


@pytest.mark.parametrize(("reject", "letters"), [("bounced", 3), ("unsubscribed", 3), ("spam", 3), ("blocked", 33)])
def test_other_letters_are_judged_without_them(
    world: World, box: Callable[[], DeadLetters], reject: str, letters: int
) -> None:
    refuse(world, 30, "550 no", reject, more=3)
    seen = look_at_letters(box(), FEW, of_runs=False)
    (standing,) = [each for each in seen.standings if each.queue == EMAIL]
    assert (standing.depth, standing.growth) == (letters, letters)
    (found,) = alerts_of(seen)
    assert found.summary.startswith(f"{EMAIL}: {letters} dead letters (limit 2)")


def test_a_condition_says_which_letters_are_watched_and_has_alerts_of_its_own(world: World) -> None:
    fail_jobs(world, [(f"a{n}", {}, f"x {n}") for n in range(5)])
    fail_jobs(world, [(f"b{n}", {}, "y") for n in range(2)])
    few: dict[str, object] = {"depth": 1, "growth": 100}
    mine, none = {"where": "error=y", **few}, {"where": "error~nothing", **few}
    over = json.loads(watch(world, mine, none).stdout)["alerts"]
    assert [each["summary"].partition(" (")[0] for each in over] == [f"{EMAIL}: 2 dead letters"]
    watch(world, few, mine)
    rows = world.session.rows(b"SELECT fingerprint, closed_at FROM mauntic_jobs.alerts ORDER BY id")
    assert [row["fingerprint"].endswith(" where error=y") for row in rows] == [True, False]
    assert [row["closed_at"] for row in rows] == [None, None]
    program(world, "dlq", "discard", "--where", "error=y", "--yes")
    watch(world, few, mine)
    assert [is_over for _, is_over in alerts(world)] == [True, False]


def test_the_alerts_of_a_condition_that_the_settings_name_no_more_end(world: World) -> None:
    fail_jobs(world, [(f"a{n}", {}, "x") for n in range(5)])
    watch(world, {"where": "error=x", "depth": 1})
    assert [is_over for _, is_over in alerts(world)] == [False]
    watch(world)
    assert [is_over for _, is_over in alerts(world)] == [True]
