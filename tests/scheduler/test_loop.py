"""The loop as a process: it runs slots, drains, and loses none and doubles none when it is killed."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from mauntic_jobs.errors import ExitCode
from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.runner.request import Launcher
from mauntic_jobs.scheduler.loop import Loop
from mauntic_jobs.scheduler.upkeep_runner import UpkeepRunner
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.cron import latest_slot
from tests.support import scheduled_only, start_program, wait_until
from tests.wire_counter import counted

EVERY_MINUTE = '{"aggregate-hourly": {"cron": "* * * * *", "catch_up": "all/5h"}}'
# A job without buckets: no slot stands for another one.
EACH_MINUTE = '{"stale-execution-cleanup": {"cron": "* * * * *", "catch_up": "all/5h"}}'
CLEANUP = "stale-execution-cleanup"
_SETTLED = (
    b"INSERT INTO mauntic_jobs.schedules (job, cron, settled) VALUES (%(job)s, %(cron)s, %(at)s)"
    b" ON CONFLICT (job) DO UPDATE SET settled = EXCLUDED.settled"
)
_HOLD = b"BEGIN; LOCK TABLE analytics.event_aggregates IN ACCESS EXCLUSIVE MODE"


def _start(settings: Settings, *arguments: str, **extra: str) -> subprocess.Popen[str]:
    more = {"MAUNTIC_JOBS": EVERY_MINUTE, **extra}
    return start_program("schedule", "run", "--loop", *arguments, settings=settings, **more)


def _leave_due(session: Session, minutes: int, job: str = "aggregate-hourly") -> None:
    """Let the latest slots of a job of every minute, so many of them, be left for the loop."""
    settled = latest_slot("* * * * *", clock.now()) - timedelta(minutes=minutes)
    session.execute(_SETTLED, {"job": job, "cron": "* * * * *", "at": settled})


def _runs(session: Session, *statuses: str, job: str = "aggregate-hourly") -> list[dict[str, Any]]:
    return [row for row in list_runs(session, job=job, limit=1000) if row["status"] in statuses]


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_it_runs_what_is_due_and_ends_on_sigterm(settings: Settings, session: Session) -> None:
    _leave_due(session, 2, CLEANUP)
    loop = _start(settings, MAUNTIC_JOBS=EACH_MINUTE)
    wait_until(lambda: len(_runs(session, "succeeded", job=CLEANUP)) >= 2, "two runs")
    loop.send_signal(signal.SIGTERM)
    output, errors = loop.communicate()
    assert loop.returncode == ExitCode.DONE, errors
    assert output.count(CLEANUP) >= 2
    assert {row["launcher"] for row in _runs(session, "succeeded", job=CLEANUP)} == {"loop"}


def test_killed_at_any_moment_it_goes_on_without_a_gap_or_a_double(settings: Settings, session: Session) -> None:
    random = Random(5)
    before = latest_slot("* * * * *", clock.now())
    _leave_due(session, 20, CLEANUP)
    for _ in range(8):
        loop = _start(settings, MAUNTIC_JOBS=EACH_MINUTE)
        time.sleep(random.uniform(0.3, 1.3))  # the moment is what is random here
        loop.kill()
        loop.communicate()
    loop = _start(settings, MAUNTIC_JOBS=EACH_MINUTE)
    assert loop.stderr is not None
    assert "the next slot is" in next(iter(loop.stderr))
    wanted = [before - timedelta(minutes=minutes) for minutes in range(20)]
    wait_until(lambda: {*wanted} <= {row["slot"] for row in _runs(session, "succeeded", job=CLEANUP)}, "all slots", 180)
    loop.send_signal(signal.SIGINT)
    _, errors = loop.communicate()
    assert loop.returncode == ExitCode.DONE, errors
    made = Counter(row["slot"] for row in _runs(session, "succeeded", "failed", "missed", "superseded", job=CLEANUP))
    assert set(made.values()) == {1}
    assert min(made) == before - timedelta(minutes=19)


def test_a_run_that_outlasts_the_drain_is_stopped_and_its_slot_is_due_again(
    settings: Settings, session: Session, direct_settings: Settings
) -> None:
    _leave_due(session, 1)
    with connect(direct_settings) as holder:
        holder.execute_alone(_HOLD)
        loop = _start(settings, "--drain-timeout", "0.5s")
        wait_until(lambda: _runs(session, "running"), "a run")
        loop.send_signal(signal.SIGTERM)
        _, errors = loop.communicate()
    assert loop.returncode == ExitCode.TRY_LATER
    assert "stopped aggregate-hourly, whose slots are due again" in errors
    (stopped,) = _runs(session, "stopped")
    assert (stopped["claims_slot"], stopped["error"]) == (False, "stopped by signal 15")
    loop = _start(settings)
    # Should the next minute have struck meanwhile, its slot stands for this one: both rebuild the same day.
    made_up = ("succeeded", "superseded")
    wait_until(lambda: stopped["slot"] in {row["slot"] for row in _runs(session, *made_up)}, "the run made up for")
    loop.terminate()
    loop.communicate()


@pytest.mark.usefixtures("started_processes")  # as the clock starts its runs where no fork server is
def test_a_run_that_ends_within_the_drain_is_waited_for(
    settings: Settings, session: Session, direct_settings: Settings
) -> None:
    _leave_due(session, 1)
    with connect(direct_settings) as holder:
        holder.execute_alone(_HOLD)
        loop = _start(settings)
        wait_until(lambda: _runs(session, "running"), "a run")
        loop.send_signal(signal.SIGTERM)
        assert loop.stderr is not None
        for line in loop.stderr:
            if "waiting for aggregate-hourly" in line:
                break
    loop.communicate()
    assert loop.returncode == ExitCode.DONE
    assert len(_runs(session, "succeeded")) == 1


def test_its_health_can_be_asked_for(settings: Settings, session: Session) -> None:
    assert session.rows(b"SELECT 1")
    port = _free_port()
    # A job that no minute makes due while its health is asked for.
    loop = _start(settings, PORT=str(port), MAUNTIC_JOBS=scheduled_only())

    def health() -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                return json.load(answer)
        except OSError:
            return None

    details = wait_until(health, "an answer")
    assert (details["running"], details["trouble"]) == ([], None)
    other = _start(settings, PORT=str(port))
    _, errors = other.communicate()
    assert (other.returncode, f"Cannot serve /health on port {port}" in errors) == (ExitCode.CONFIGURATION, True)
    loop.terminate()
    loop.communicate()
    assert loop.returncode == ExitCode.DONE


def test_it_goes_on_while_the_database_is_away(settings: Settings) -> None:
    assert settings.database_url
    away = Settings(database_url="postgresql://nobody@127.0.0.1:1/none")
    loop = _start(away)
    assert loop.stderr is not None
    for line in loop.stderr:
        if "goes on trying" in line:
            break
    assert loop.poll() is None
    loop.terminate()
    loop.communicate()
    assert loop.returncode == ExitCode.DONE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle_it_ends_at_once(settings: Settings, number: signal.Signals) -> None:
    loop = _start(settings)
    assert loop.stderr is not None
    assert "the next slot is" in next(iter(loop.stderr))
    loop.send_signal(number)
    loop.communicate()
    assert loop.returncode == ExitCode.DONE


def test_jobs_run_side_by_side_but_what_comes_after_another_waits_for_it(
    settings: Settings, session: Session, direct_settings: Settings
) -> None:
    names = ("aggregate-hourly", "generate-daily-reports", "stale-execution-cleanup")
    # Slots that struck some time ago, so that none strikes meanwhile, nor one of another job.
    cron = f"{(clock.now() - timedelta(minutes=20)).minute} * * * *"
    others = json.loads(scheduled_only(*names))
    lines = json.dumps(others | {name: {"cron": cron, "catch_up": "latest/5h"} for name in names})
    for name in names:
        settled = latest_slot(cron, clock.now()) - timedelta(hours=1)
        session.execute(_SETTLED, {"job": name, "cron": cron, "at": settled})

    def statuses() -> dict[str, str]:
        return {row["job"]: row["status"] for row in reversed(list_runs(session, limit=1000))}

    with connect(direct_settings) as holder:
        holder.execute_alone(_HOLD)
        loop = _start(settings, MAUNTIC_JOBS=lines)
        beside = {"aggregate-hourly": "running", "stale-execution-cleanup": "succeeded"}
        wait_until(lambda: statuses() == beside, "the job beside")
    wait_until(lambda: statuses().get("generate-daily-reports") == "succeeded", "the job after")
    loop.terminate()
    loop.communicate()
    first = {row["job"]: row for row in list_runs(session, limit=1000)}
    assert first["aggregate-hourly"]["finished_at"] <= first["generate-daily-reports"]["started_at"]


@pytest.mark.parametrize("code", [0, 1, 2, 75])
def test_a_run_that_ends_before_it_claims_its_slot_is_started_again_ever_more_rarely(
    direct_settings: Settings, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    started = []

    def start(*_: object, **__: object) -> subprocess.Popen[bytes]:
        started.append(process := subprocess.Popen([sys.executable, "-c", f"raise SystemExit({code})"]))
        return process

    monkeypatch.setattr("mauntic_jobs.runner.subprocesses.start_slot", start)
    job = replace(JOBS["aggregate-hourly"], cron="0 0 * * *")
    now = [clock.now()]
    monkeypatch.setattr("mauntic_jobs.scheduler.loop.shared_time", lambda *_: now[0])
    with connect(direct_settings) as session:
        settled = latest_slot(job.cron, now[0]) - timedelta(days=1)
        session.execute(_SETTLED, {"job": job.name, "cron": job.cron, "at": settled})
    loop = Loop({job.name: job}, direct_settings, lambda: now[0], lambda _: None, timedelta(seconds=1))
    begun = now[0]
    times = []
    for _ in range(120):
        before = len(started)
        loop._look()
        if len(started) > before:
            started[-1].wait()
            times.append((now[0] - begun).total_seconds())
            assert loop._reap()
            loop._look()
        now[0] += timedelta(seconds=10)
    assert times == [0, 30, 90, 210, 450, 750, 1050], code


def test_a_slot_that_another_clock_has_answered_holds_up_the_next_one_no_longer(
    direct_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start(*_: object, **__: object) -> subprocess.Popen[bytes]:
        started.append(process := subprocess.Popen([sys.executable, "-c", ""]))
        process.wait()
        return process

    monkeypatch.setattr("mauntic_jobs.runner.subprocesses.start_slot", start)
    job = replace(JOBS["aggregate-hourly"], cron="0 0 * * *")
    now = [clock.now()]
    monkeypatch.setattr("mauntic_jobs.scheduler.loop.shared_time", lambda *_: now[0])
    due = latest_slot(job.cron, now[0]) - timedelta(days=1)
    loop = Loop({job.name: job}, direct_settings, lambda: now[0], lambda _: None, timedelta(seconds=1))
    with connect(direct_settings) as session:
        session.execute(_SETTLED, {"job": job.name, "cron": job.cron, "at": due})
        for _ in range(30):
            loop._look()
            loop._reap()
            now[0] += timedelta(seconds=10)
        assert len(started) == 4
        session.execute(_SETTLED, {"job": job.name, "cron": job.cron, "at": now[0]})
        loop._look()
        session.execute(_SETTLED, {"job": job.name, "cron": job.cron, "at": due})
        loop._look()
    assert len(started) == 5


def test_after_a_line_was_changed_the_old_slot_and_the_new_ones_are_run_at_once(
    settings: Settings, session: Session
) -> None:
    now = clock.now()
    old = latest_slot(f"{(now - timedelta(minutes=4)).minute} * * * *", now)
    session.execute(_SETTLED, {"job": CLEANUP, "cron": f"{old.minute} * * * *", "at": old - timedelta(minutes=1)})
    expected = [old + timedelta(minutes=minutes) for minutes in range(5)]
    loop = _start(settings, MAUNTIC_JOBS=EACH_MINUTE)
    wait_until(lambda: len(_runs(session, "succeeded", job=CLEANUP)) >= len(expected), "the old slot and the new ones")
    loop.terminate()
    _, errors = loop.communicate()
    runs = sorted(_runs(session, "succeeded", job=CLEANUP), key=lambda row: row["slot"])
    assert [row["slot"] for row in runs][: len(expected)] == expected
    assert [row["status"] for row in _runs(session, "failed", "skipped", "missed", job=CLEANUP)] == []
    # What a run prints about itself is no error: nothing is refused, and nothing is put off.
    assert "no slot" not in errors
    assert "next attempt" not in errors
    # The loop waits 30 s after a run that has not answered its slot.
    waits = [later["started_at"] - earlier["finished_at"] for earlier, later in pairwise(runs[: len(expected)])]
    assert max(waits) < timedelta(seconds=25)


@pytest.mark.parametrize(("every", "looks"), [("1m", 37), ("15m", 13), ("1h", 4)])
def test_between_two_looks_an_idle_loop_asks_nothing(
    direct_settings: Settings, monkeypatch: pytest.MonkeyPatch, every: str, looks: int
) -> None:
    assert direct_settings.database_url
    now = [clock.now()]
    monkeypatch.setattr("mauntic_jobs.scheduler.loop.shared_time", lambda *_: now[0])
    job = replace(JOBS["aggregate-hourly"], cron="0 0 1 1 *")
    seen = Counter[str]()
    with counted(direct_settings.database_url.get_secret_value()) as asked:
        own = Settings(**{**direct_settings.model_dump(), "database_url": asked.url, "watch_every": every})
        upkeep = UpkeepRunner(own, Launcher.LOOP, pytest.fail, [])
        loop = Loop({job.name: job}, own, lambda: now[0], pytest.fail, timedelta(seconds=1), upkeep=upkeep)
        for _ in range(3 * 360 + 1):
            before = asked.connections, asked.statements
            if now[0] >= loop._look_at:
                loop._look()
                seen["looks"] += 1
                assert asked.connections == before[0] + 1
            else:
                loop._reap()
                assert (asked.connections, asked.statements) == before
            now[0] += timedelta(seconds=10)
    assert seen["looks"] == looks
