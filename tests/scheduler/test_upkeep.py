"""Watching and pruning beside the jobs: each due task once, whatever the clock, and nothing else is held up by it."""

import signal
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from mauntic_jobs.embedded.servers import Servers
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.runner.request import Launcher
from mauntic_jobs.scheduler.upkeep import TASKS, Task, tasks_of
from mauntic_jobs.scheduler.upkeep_runner import UpkeepRunner
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from mauntic_jobs.timekeeping.cron import check_cron, latest_slot
from tests.support import run_program, scheduled_only, start_program, wait_until

_DAY = timedelta(days=1)
_NO_JOBS = {"MAUNTIC_JOBS": scheduled_only()}


@pytest.fixture
def on(direct_settings: Settings) -> Settings:
    """Return the settings of a fresh database, with upkeep."""
    return Settings(**{**direct_settings.model_dump(), "upkeep": True})


@pytest.fixture
def session(on: Settings) -> Iterator[Session]:
    with connect(on) as opened:
        yield opened


def _rows(session: Session) -> dict[str, dict[str, Any]]:
    rows = session.rows(b"SELECT * FROM mauntic_jobs.upkeep ORDER BY task")
    return {row["task"]: dict(row) for row in rows}


def _daily(name: str, command: str, limit: timedelta = timedelta(minutes=1)) -> Task:
    """Return a task that strikes once a day, so that no test runs over the end of a slot."""
    return Task(name, "is of the test", command, _DAY, limit)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_cron_lines_and_the_slots_of_the_database_agree(on: Settings, session: Session, task: Task) -> None:
    check_cron(task.cron)
    # What is started on demand only finds something to do.
    session.execute(
        b"INSERT INTO mauntic_jobs.outbox (queue, job_id, name, data) VALUES ('journey:execute-step', 'j', 'j', '{}')"
    )
    upkeep = UpkeepRunner(on, Launcher.SCHEDULE, pytest.fail, [task._replace(command="alerts list")])
    with upkeep:
        upkeep.start_due(session)
    row = _rows(session)[task.name]
    assert row["slot"] == latest_slot(task.cron, row["started_at"])


@pytest.mark.parametrize(
    ("every", "cron"), [("1m", "* * * * *"), ("5m", "*/5 * * * *"), ("30m", "*/30 * * * *"), ("1h", "0 * * * *")]
)
def test_the_clock_watches_as_often_as_the_settings_say(on: Settings, session: Session, every: str, cron: str) -> None:
    own = Settings(**{**on.model_dump(), "redis_url": "redis://127.0.0.1:1/0", "watch_every": every})
    tasks = tasks_of(own)
    lines = {task.name: task.cron for task in tasks}
    watching = dict.fromkeys(("monitor", "outbox"), cron)
    assert lines == {**watching, "prune": "30 4 * * *", "verify": "0 5 * * *"}
    with UpkeepRunner(own, Launcher.SCHEDULE, pytest.fail, [tasks[0]._replace(command="alerts list")]) as upkeep:
        upkeep.start_due(session)
    row = _rows(session)["monitor"]
    assert row["slot"] == latest_slot(cron, row["started_at"])


@pytest.mark.parametrize("every", ["30s", "7m", "90s", "2h", "0s"])
def test_an_interval_that_does_not_divide_an_hour_is_refused(every: str) -> None:
    with pytest.raises(ValidationError, match="whole minutes of which an hour is a multiple"):
        Settings(watch_every=every)


_CLAIMS = b"""
CREATE TABLE mauntic_jobs.claims (task text, slot timestamptz, at timestamptz);
CREATE FUNCTION mauntic_jobs.note_claim() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO mauntic_jobs.claims VALUES (NEW.task, NEW.slot, NEW.started_at);
    RETURN NEW;
END
$$;
CREATE TRIGGER note_claim AFTER INSERT OR UPDATE OF slot, ends_by ON mauntic_jobs.upkeep
FOR EACH ROW WHEN (NEW.finished_at IS NULL) EXECUTE FUNCTION mauntic_jobs.note_claim()
"""


def test_a_due_task_runs_once_with_several_clocks_at_once(on: Settings, session: Session) -> None:
    session.execute(_CLAIMS)
    clocks = [start_program("schedule", "run", settings=on, **_NO_JOBS) for _ in range(3)]
    ended = [clock.communicate(timeout=60) for clock in clocks]
    assert [clock.returncode for clock in clocks] == [0, 0, 0], ended
    claims = [(row["task"], row["slot"]) for row in session.rows(b"SELECT task, slot FROM mauntic_jobs.claims")]
    assert {task for task, _ in claims} == {"monitor", "prune", "verify"}
    assert len(claims) == len(set(claims))
    rows = _rows(session)
    assert {(row["exit_code"], row["failures"], row["error"]) for row in rows.values()} == {(0, 0, None)}


def test_each_claim_of_a_slot_is_of_one_clock_and_earlier_slots_are_not_caught_up(
    on: Settings, session: Session
) -> None:
    tasks = [_daily("prune", "db prune --quiet")]
    counts = []
    for _ in range(2):
        runners = [UpkeepRunner(on, Launcher.SCHEDULE, pytest.fail, tasks) for _ in range(2)]
        for upkeep in runners:
            with upkeep:
                upkeep.start_due(session)
                counts.append(len(upkeep._children))
        session.execute(b"UPDATE mauntic_jobs.upkeep SET slot = slot - interval '7 days'")
    assert counts == [1, 0, 1, 0]


def test_a_task_that_hangs_holds_up_no_slot_and_is_ended(on: Settings, session: Session) -> None:
    lines: list[str] = []
    stays = _daily("monitor", "monitor run --interval 60s", timedelta(seconds=1))
    upkeep = UpkeepRunner(on, Launcher.SCHEDULE, lines.append, [stays])
    with upkeep:
        upkeep.start_due(session)
        # Another clock starts no second one beside it, also not for the next slot, and its jobs run.
        session.execute(b"UPDATE mauntic_jobs.upkeep SET slot = slot - interval '1 day'")
        done = run_program("stale-execution-cleanup", "--slot", "latest", settings=on)
        other = UpkeepRunner(on, Launcher.SCHEDULE, pytest.fail, [stays])
        other.start_due(session)
        assert (done.returncode, other._children) == (ExitCode.DONE, [])
    row = _rows(session)["monitor"]
    assert (row["exit_code"], row["failures"]) == (-signal.SIGKILL, 1)
    assert row["error"] == "ended after 1s, its time limit"
    assert f"schedule: monitor: {row['error']}" in lines


def test_a_failing_task_is_shown_and_alerted_until_it_runs_again(on: Settings, session: Session) -> None:
    # The monitor is the one that fails: the clock itself raises the alert.
    found = []
    broken = [_daily("monitor", "monitor run --once --interval nonsense")]
    for _ in range(3):
        lines: list[str] = []
        with UpkeepRunner(on, Launcher.SCHEDULE, lines.append, broken) as upkeep:
            upkeep.start_due(session)
        assert lines
        session.execute(b"UPDATE mauntic_jobs.upkeep SET slot = NULL")
        alone = run_program("schedule", "run", settings=on, MAUNTIC_UPKEEP="false", **_NO_JOBS)
        assert alone.returncode == ExitCode.DONE
        found.append([row["fingerprint"] for row in session.rows(b"SELECT fingerprint FROM mauntic_jobs.alerts")])
    assert found == [[], [], ["upkeep failing:monitor"]]
    shown = run_program("status", settings=on)
    assert "monitor has failed 3 times in a row" in shown.stdout + shown.stderr
    listed = run_program("schedule", "list", settings=on)
    assert "failed 3 times in a row" in listed.stdout + listed.stderr
    run_program("schedule", "run", settings=on, **_NO_JOBS)
    run_program("schedule", "run", settings=on, MAUNTIC_UPKEEP="false", **_NO_JOBS)
    row = session.row(b"SELECT closed_at FROM mauntic_jobs.alerts WHERE fingerprint = 'upkeep failing:monitor'")
    assert row["closed_at"] is not None
    assert _rows(session)["monitor"]["failures"] == 0


def test_a_clock_that_died_leaves_its_task_to_the_next_one_as_a_failure(on: Settings, session: Session) -> None:
    tasks = [_daily("prune", "db prune --quiet")]
    with UpkeepRunner(on, Launcher.SCHEDULE, pytest.fail, tasks) as upkeep:
        upkeep.start_due(session)
    session.execute(
        b"UPDATE mauntic_jobs.upkeep SET finished_at = NULL, slot = slot - interval '1 day',"
        b" started_at = started_at - interval '1 day', ends_by = ends_by - interval '1 day'"
    )
    following = UpkeepRunner(on, Launcher.SCHEDULE, pytest.fail, tasks)
    following.start_due(session)
    assert _rows(session)["prune"]["failures"] == 1
    following.stop()
    row = _rows(session)["prune"]
    assert (row["slot"], row["failures"]) == (None, 1)


def _add_ambiguous_message(session: Session) -> None:
    session.execute(
        b"INSERT INTO mauntic_jobs.deliveries (organization_id, delivery_id, channel, state, until, queue_job, owner,"
        b" claimed_at, updated_at)"
        b" SELECT gen_random_uuid(), 'd1', 'email', 'ambiguous', NULL, 'j1', gen_random_uuid(),"
        b" now() - interval '2 hours', now() - interval '2 hours'"
    )


def _causes(session: Session) -> set[str]:
    return {row["cause"] for row in session.rows(b"SELECT cause FROM mauntic_jobs.alerts WHERE closed_at IS NULL")}


@pytest.mark.parametrize("beside", [[], [("monitor", "run", "--once", "--quiet")]])
def test_the_clock_alone_raises_the_alerts_of_the_monitor(
    on: Settings, session: Session, beside: list[tuple[str, ...]]
) -> None:
    # A line of a crontab for the same does no harm: an alert is raised once.
    _add_ambiguous_message(session)
    others = [start_program(*words, settings=on) for words in beside]
    done = run_program("schedule", "run", settings=on, **_NO_JOBS)
    for other in others:
        other.communicate(timeout=60)
    assert done.returncode == ExitCode.DONE
    alerts = session.rows(b"SELECT cause FROM mauntic_jobs.alerts")
    assert [row["cause"] for row in alerts] == ["deliveries held"]


def test_the_loop_does_the_same_and_stops_cleanly(on: Settings, session: Session) -> None:
    _add_ambiguous_message(session)
    loop = start_program("schedule", "run", "--loop", settings=on, **_NO_JOBS)
    wait_until(lambda: "deliveries held" in _causes(session), "the alert of a held delivery")
    wait_until(lambda: "prune" in _rows(session), "a claim of pruning")
    loop.send_signal(signal.SIGTERM)
    _, stderr = loop.communicate(timeout=60)
    assert (loop.returncode, "Traceback" in stderr) == (ExitCode.DONE, False)
    assert all(row["finished_at"] is not None for row in _rows(session).values())


def test_what_a_watch_finds_is_no_failure_of_it(on: Settings, session: Session) -> None:
    session.execute(
        b"INSERT INTO mauntic_jobs.runs (job, slot, claims_slot, window_start, window_end, launcher, host, pid,"
        b" version, attempt, fencing_token, status, finished_at) SELECT 'aggregate-hourly', date_trunc('hour', now()),"
        b" true, date_trunc('hour', now()) - interval '1 hour', date_trunc('hour', now()), 'cron', 'h', 1, '0', 1, 1,"
        b" 'failed', now()"
    )
    watch = _daily("verify", "monitor check")._replace(finds=ExitCode.FAILED)
    with UpkeepRunner(on, Launcher.SCHEDULE, pytest.fail, [watch]) as upkeep:
        upkeep.start_due(session)
    row = _rows(session)["verify"]
    assert (row["exit_code"], row["failures"], row["error"]) == (ExitCode.FAILED, 0, None)


def test_dead_letters_are_watched_where_there_is_a_redis(on: Settings, session: Session, servers: Servers) -> None:
    own = Settings(**{**on.model_dump(), "redis_url": servers.redis_url})
    run_program("schedule", "run", settings=on, REDIS_URL=servers.redis_url, **_NO_JOBS)
    assert {name: row["exit_code"] for name, row in _rows(session).items()} == {
        "monitor": 0,
        "prune": 0,
        "verify": 0,
    }
    assert [task.name for task in tasks_of(own)] == [task.name for task in TASKS]


def test_without_upkeep_none_is_run(direct_settings: Settings) -> None:
    done = run_program("schedule", "run", settings=direct_settings, **_NO_JOBS)
    assert done.returncode == ExitCode.DONE
    with connect(direct_settings) as session:
        assert _rows(session) == {}
