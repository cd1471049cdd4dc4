"""What is said on stderr, and to whom."""

import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from mauntic_jobs.cli.framework.output import log
from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import connect
from mauntic_jobs.telemetry import logs
from tests.delivery.crash import ended, start
from tests.delivery.sink import Sink, running_sink
from tests.delivery.world import World, new_world
from tests.support import command, environment, run_program, scheduled_only, start_program, wait_until

JOB = ("aggregate-hourly", "--date", "2026-10-05")


@contextmanager
def json_lines() -> Iterator[None]:
    # It keeps the stderr of its first line, which pytest changes.
    logs._logger.cache_clear()
    logs.configure(Settings(log_format="json"))
    try:
        yield
    finally:
        logs.configure(Settings())
        logs._logger.cache_clear()


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    with running_sink(tmp_path) as running:
        yield running


@pytest.fixture
def world(direct_settings: Settings, servers: Servers) -> Iterator[World]:
    with new_world(direct_settings, servers.redis_url) as made:
        yield made


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_lines_have_what_is_bound_around_them_and_nothing_later(capfd: pytest.CaptureFixture[str]) -> None:
    with json_lines():
        with logs.bound(job="a"):
            with logs.bound():
                logs.bind(run=1)
                log("in it", "warning")
            log("around it")
        log("after it")
    inner, outer, after = lines(capfd.readouterr().err)
    assert (inner["job"], inner["run"], inner["level"], inner["event"]) == ("a", 1, "warning", "in it")
    assert (outer["job"], "run" in outer) == ("a", False)
    assert set(after) == {"event", "level", "pid", "timestamp"}


def test_lines_hold_no_address_and_no_credential(capfd: pytest.CaptureFixture[str]) -> None:
    with json_lines():
        logs.emit("error", "refused ann@example.com", reason="550 <ann@example.com> password=hunter2", count=1)
    text = capfd.readouterr().err
    assert "example.com" not in text
    assert "hunter2" not in text


def test_a_thread_says_what_is_bound_where_it_was_started() -> None:
    seen: list[Any] = []
    with logs.bound(run=7):
        thread = Thread(target=copy_context().run, args=(lambda: seen.append(dict(logs._bound.get())),))
        thread.start()
        thread.join()
    assert seen == [{"run": 7}]


def test_a_command_that_ends_speaks_to_people_unless_told_otherwise(direct_settings: Settings) -> None:
    with connect(direct_settings) as session:
        session.execute(b"ALTER TABLE analytics.event_aggregates RENAME TO gone")
    mailed = run_program(*JOB, "--quiet", settings=direct_settings)
    assert mailed.stderr.startswith("aggregate-hourly 2026-10-05/2026-10-06: ")
    collected = run_program(*JOB, "--quiet", settings=direct_settings, MAUNTIC_LOG_FORMAT="json")
    assert collected.stdout == ""
    (line,) = lines(collected.stderr)
    assert (line["event"], line["level"], line["job"], line["run"]) == ("run ended", "error", "aggregate-hourly", 2)
    assert (line["window"], line["status"]) == ("2026-10-05/2026-10-06", "failed")
    assert line["exit_code"] == collected.returncode == ExitCode.CONFIGURATION
    assert "event_aggregates" in line["error"]


def test_lines_of_attempts_have_the_runs_number(direct_settings: Settings) -> None:
    with connect(direct_settings) as session:
        session.execute(
            b"CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql AS"
            b" $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40P01'; END $$"
        )
        session.execute(b"CREATE TRIGGER t BEFORE UPDATE ON mauntic_jobs.runs FOR EACH ROW EXECUTE FUNCTION gone()")
    done = run_program(*JOB, settings=direct_settings, MAUNTIC_LOG_FORMAT="json", MAUNTIC_MAX_ATTEMPTS="2")
    said = lines(done.stderr)
    assert "attempt 1 failed" in said[0]["event"]
    assert {(line["job"], line["run"], line["window"]) for line in said} == {
        ("aggregate-hourly", 1, "2026-10-05/2026-10-06")
    }
    assert {line.get("launcher") for line in said[:-1]} == {"cli"}


def test_a_process_that_stays_speaks_json_and_so_do_its_runs(direct_settings: Settings) -> None:
    with connect(direct_settings) as session:
        session.execute(
            b"INSERT INTO mauntic_jobs.schedules (job, cron, settled)"
            b" VALUES ('aggregate-hourly', '0 * * * *', clock_timestamp() - interval '2 hours')"
        )
    only = scheduled_only("aggregate-hourly")
    loop = start_program("schedule", "run", "--loop", settings=direct_settings, MAUNTIC_JOBS=only)

    def ran() -> bool:
        with connect(direct_settings) as session:
            return bool(session.rows(b"SELECT FROM mauntic_jobs.runs WHERE status = 'succeeded'"))

    wait_until(ran, "a run")
    loop.send_signal(signal.SIGTERM)
    output, errors = loop.communicate()
    assert loop.returncode == ExitCode.DONE, errors
    said = lines(errors)
    assert "the next slot is" in said[0]["event"]
    ends = [line for line in said if line["event"] == "run ended"]
    assert {line["job"] for line in ends} == {"aggregate-hourly"}
    assert ends[0]["pid"] != said[0]["pid"]
    assert {document["job"] for document in lines(output)} == {"aggregate-hourly"}


def test_a_process_that_stays_speaks_to_whoever_sits_at_its_terminal(direct_settings: Settings) -> None:
    ours, theirs = pty.openpty()
    loop = subprocess.Popen(
        command("schedule", "run", "--loop"),
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env=environment(direct_settings),
    )
    os.close(theirs)
    said = os.read(ours, 1000).decode()
    loop.send_signal(signal.SIGTERM)
    loop.wait()
    os.close(ours)
    assert said.startswith("schedule: ")


def test_lines_of_a_message_name_its_organization(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    world.add(
        world.message("d1", emailAddress="reject-550@example.com", subject="for your eyes only"),
        {"deliveryId": "d2"},
        ids=["j1", "j2"],
    )
    status, errors = ended(start(world, "--drain", "--concurrency", "email=1"))
    assert status == 0, errors
    said = {line["queue_job"]: line for line in lines(errors) if line["event"] == "failed"}
    assert said["j1"]["organization"] == str(world.organization)
    assert said["j1"]["delivery"] == world.key("d1")
    assert "organization" not in said["j2"]
    assert "reject-550" not in errors
    assert "eyes only" not in errors
