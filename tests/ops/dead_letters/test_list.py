"""Listing, showing and exporting dead letters, as the commands print them."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from mauntic_jobs.ops.dead_letters import failed_set
from mauntic_jobs.ops.dead_letters.store import DeadLetters, Selection
from mauntic_jobs.runner import claim as claims
from mauntic_jobs.timekeeping.window import Window
from tests.delivery.world import World
from tests.ops.dead_letters.failing import EMAIL, STEPS, fail_jobs, hours_ago, program
from tests.support import day, request, utc

ANN = "ann@example.com"
TOO_MANY = f"421 too many connections for <{ANN}>"


def shown(world: World, *arguments: str) -> Any:
    done = program(world, "dlq", *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def failed_run(world: World, window: Window, error: str = "it broke", name: str = "generate-daily-reports") -> int:
    claim = claims.acquire(world.session, request(world.settings, window, name), 1)
    claims.fail(world.session, claim, error)
    return claim.id


def succeeded_run(world: World, window: Window, name: str = "generate-daily-reports") -> None:
    claim = claims.acquire(world.session, request(world.settings, window, name), 1)
    claims.succeed(world.session, claim, {}, None)


def test_the_list_counts_the_failures_of_all_queues_by_kind(world: World) -> None:
    fail_jobs(world, [("a", world.message("d1"), TOO_MANY)], at=hours_ago(30))
    fail_jobs(world, [("b", world.message("d2"), TOO_MANY.replace("ann", "bob"))], at=hours_ago(1))
    fail_jobs(world, [("c", {}, "no such step 17")], queue=STEPS)
    run = failed_run(world, day("2026-10-01"))
    rows = shown(world, "list")
    assert [(row["queue"], row["count"], row["example"]) for row in rows] == [
        (EMAIL, 2, f"{EMAIL}/b"),
        (STEPS, 1, f"{STEPS}/c"),
        ("run", 1, f"run/{run}"),
    ]
    assert rows[0]["first"] < rows[0]["last"]
    text = program(world, "dlq", "list")
    assert "2 x delivery:send-email, 30h ago to 60m ago, fingerprint" in text.stdout
    assert "421 too many connections for <<address>>" in text.stdout
    assert text.stderr == "4 dead letters\n"
    assert "example.com" not in text.stdout + json.dumps(rows)
    assert "bob@example.com" in program(world, "dlq", "list", "--reveal").stdout


def test_the_list_is_narrowed_by_queue_time_organization_and_condition(world: World) -> None:
    other = str(uuid4())
    fail_jobs(world, [("old", world.message("d1"), "x")], at=hours_ago(5))
    fail_jobs(world, [("new", world.message("d2", organizationId=other), "y")])
    fail_jobs(world, [("step", {}, "y")], queue=STEPS)

    def found(*arguments: str) -> list[str]:
        return [row["id"].partition("/")[2] for row in shown(world, "list", "--jobs", *arguments)]

    assert found() == ["step", "new", "old"]
    assert found("--since", "2h", "--queue", EMAIL) == ["new"]
    assert found("--org", other) == ["new"]
    assert found("--where", f"org={world.organization}") == ["old"]
    assert found("--where", "error=y and queue~journey") == ["step"]
    assert found("--where", "channel=email", "--limit", "1") == ["new"]
    assert found("--queue", "run") == []


def test_runs_are_listed_until_their_window_is_covered(world: World) -> None:
    failed_run(world, day("2026-10-01"))
    again = failed_run(world, day("2026-10-01"), "it broke again")
    hour = Window(utc("2026-10-02T09:00"), utc("2026-10-02T10:00"))
    hourly = failed_run(world, hour, name="aggregate-hourly")
    present = failed_run(world, hour, name="segment-trigger-eval")
    names = [f"run/{run}" for run in (present, hourly, again)]
    assert [row["id"] for row in shown(world, "list", "--jobs")] == names
    # Another hour of the same day rebuilds the whole day; a job that looks at the present makes up for any window.
    succeeded_run(world, Window(utc("2026-10-02T11:00"), utc("2026-10-02T12:00")), "aggregate-hourly")
    succeeded_run(world, Window(utc("2026-10-03T11:00"), utc("2026-10-03T12:00")), "segment-trigger-eval")
    succeeded_run(world, day("2026-10-02"))
    assert [row["id"] for row in shown(world, "list", "--jobs")] == [f"run/{again}"]
    succeeded_run(world, day("2026-10-01"))
    assert shown(world, "list", "--jobs") == []


def test_a_run_is_covered_by_any_window_of_its_day_and_by_no_other(world: World) -> None:
    hour = Window(utc("2026-10-02T09:00"), utc("2026-10-02T10:00"))
    failed = failed_run(world, hour, name="aggregate-hourly")
    for start, end in (("2026-10-03T07:00", "2026-10-03T08:00"), ("2026-10-01T22:00", "2026-10-01T23:00")):
        succeeded_run(world, Window(utc(start), utc(end)), "aggregate-hourly")
    assert [row["id"] for row in shown(world, "list", "--jobs")] == [f"run/{failed}"]
    # The window that follows does not cover it, an earlier one of the same day does.
    succeeded_run(world, Window(utc("2026-10-02T03:00"), utc("2026-10-02T04:00")), "aggregate-hourly")
    assert shown(world, "list", "--jobs") == []


def test_a_run_is_covered_by_the_first_window_of_the_next_day(world: World) -> None:
    failed_run(world, Window(utc("2026-10-02T09:00"), utc("2026-10-02T10:00")), name="aggregate-hourly")
    for start, end in (("2026-10-04T07:00", "2026-10-04T08:00"), ("2026-10-03T00:00", "2026-10-03T01:00")):
        succeeded_run(world, Window(utc(start), utc(end)), "aggregate-hourly")
    assert shown(world, "list", "--jobs") == []


def test_a_letter_is_found_by_its_short_name_if_only_one_queue_has_it(world: World) -> None:
    fail_jobs(world, [("a", world.message(), "x")])
    assert shown(world, "show", "a")["id"] == f"{EMAIL}/a"
    fail_jobs(world, [("a", {}, "x")], queue=STEPS)
    both = program(world, "dlq", "show", "a")
    assert both.exit_code == 2
    assert f"{EMAIL}/a or {STEPS}/a" in both.stderr
    assert shown(world, "show", f"{STEPS}/a")["queue"] == STEPS
    for name in ("nothing", f"{EMAIL}/nothing", "run/7", "run/x", "nowhere/a"):
        missing = program(world, "dlq", "show", name)
        assert (missing.exit_code, missing.stdout) == (2, "")
        assert f"There is no dead letter {name}." in missing.stderr


def test_show_has_the_payload_and_masks_persons(world: World) -> None:
    message = world.message(phoneNumber="+15550100123", templateData={"note": f"write to {ANN}"}, subject="Hello")
    fail_jobs(world, [("a", message, f"cannot reach {ANN}")])
    found = shown(world, "show", "a")
    assert (found["payload"]["emailAddress"], found["payload"]["phoneNumber"]) == ("<address>", "<phone>")
    assert found["payload"]["subject"] == "Hello"
    assert found["options"]["attempts"] == 4
    plain = program(world, "dlq", "show", "a").stdout
    for text in (plain, json.dumps(found)):
        assert ANN not in text
        assert "5550100123" not in text
    assert shown(world, "show", "a", "--reveal")["payload"] == message


def test_show_of_a_run_is_its_row(world: World) -> None:
    run = failed_run(world, day("2026-10-01"))
    found = shown(world, "show", f"run/{run}")
    assert (found["run"]["status"], found["run"]["error"]) == ("failed", "it broke")
    assert "2026-10-01/2026-10-02" in program(world, "dlq", "show", f"run/{run}").stdout


@pytest.mark.parametrize("data", ["{broken", "[1, 2]", '"ann@example.com"', ""])
def test_a_job_whose_data_is_no_object_is_shown_all_the_same(world: World, data: str) -> None:
    fail_jobs(world, [("a", {}, "x")])
    world.ask("HSET", f"{world.base}:a", "data", data)
    found = shown(world, "show", "a")
    assert ANN not in json.dumps(found)
    assert found["payload"] == data.replace(ANN, "<address>")
    assert shown(world, "list", "--where", f"org={world.organization}") == []


def test_a_job_that_lost_its_hash_is_listed(world: World) -> None:
    fail_jobs(world, [("a", {}, "x")])
    world.ask("DEL", f"{world.base}:a")
    assert shown(world, "list")[0]["error"] == "(no reason was given)"
    assert program(world, "dlq", "list", "--jobs").exit_code == 0


def test_every_job_is_read_once_also_when_many_failed_at_once_and_others_leave(
    world: World, box: Callable[[], DeadLetters], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed_set, "_PAGE", 7)
    names = [f"j{n:02}" for n in range(40)]
    fail_jobs(world, [(name, {}, "x") for name in names[:25]], at=hours_ago(2))
    for name in names[25:]:
        fail_jobs(world, [(name, {}, "x")], at=hours_ago(1))
    only = Selection(queues=[EMAIL])
    assert [letter.id for letter in box().letters(only, newest_first=True)] == [
        *names[:24:-1],
        *names[24::-1],
    ]
    seen = []
    for letter in box().letters(only):
        seen.append(letter.id)
        world.ask("ZREM", f"{world.base}:failed", letter.id)
    assert seen == names


def test_what_fails_after_the_start_is_not_looked_at(world: World, box: Callable[[], DeadLetters]) -> None:
    before = box()
    fail_jobs(world, [("late", {}, "x")], at=hours_ago(-0.1))
    assert list(before.letters(Selection())) == []


def test_an_export_is_one_object_a_line_in_a_file_for_its_owner(world: World, tmp_path: Path) -> None:
    fail_jobs(world, [("a", world.message("d1"), "x"), ("b", world.message("d2"), f"y {ANN}")])
    file = tmp_path / "dead.jsonl"
    done = program(world, "dlq", "export", str(file))
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "2 dead letters exported\n")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["id"] for row in rows] == [f"{EMAIL}/a", f"{EMAIL}/b"]
    assert ANN not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    piped = program(world, "dlq", "export", "-", "--reveal", "--where", "error~y")
    assert json.loads(piped.stdout)["payload"] == world.message("d2")


def test_an_export_that_fails_leaves_the_file_as_it_was(world: World, tmp_path: Path) -> None:
    nowhere = program(world, "dlq", "export", str(tmp_path / "no" / "dead.jsonl"))
    assert nowhere.exit_code == 2
    assert "No such file" in nowhere.stderr
    file = tmp_path / "dead.jsonl"
    file.write_text("before")
    world.session.execute(b"DROP TABLE mauntic_jobs.runs CASCADE")
    assert program(world, "dlq", "export", str(file)).exit_code == 78
    assert (file.read_text(), list(tmp_path.iterdir())) == ("before", [file])


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("list", "--where", "colour=red"), "Cannot read the condition: expected a field"),
        (("list", "--since", "soon"), "Cannot read 'soon' as a length of time"),
        (("list", "--queue", "delivery:send-fax"), "There is no queue delivery:send-fax."),
        (("retry",), "Say which dead letters to retry"),
        (("discard", "a", "--where", "age>1h"), "Say which dead letters to discard"),
        (("retry", "a", "--rate", "fast"), "Cannot read 'fast' as a rate"),
    ],
)
def test_bad_input_is_a_usage_error(world: World, arguments: tuple[str, ...], problem: str) -> None:
    done = program(world, "dlq", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert problem in done.stderr
