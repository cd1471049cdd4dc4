"""Real processes: side by side, beside live runs, stopped, paused and canceled."""

import shlex
import signal
import time
from collections.abc import Iterator

import pytest

from mauntic_jobs.backfill.store import WindowState
from mauntic_jobs.errors import ExitCode
from mauntic_jobs.runner import claim as claims
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from tests.backfill.fleet import (
    JOB,
    activity,
    backfill,
    events_said,
    said,
    start_backfill,
    states,
    successes,
)
from tests.gate import Gate
from tests.support import (
    Event,
    add_events,
    contact,
    day,
    organization,
    reference_rollups,
    request,
    run_program,
    start_program,
    stored_rollups,
    utc,
    wait_until,
)

_FIRST = utc("2026-08-01T00:00")
_DAYS = 40
_RANGE = ("--from", "2026-08-01", "--to", "2026-09-10")
_EVENTS = activity(_FIRST, _DAYS)


@pytest.fixture
def gate(direct_settings: Settings) -> Iterator[Gate]:
    """Yield a gate before the rollups of three days, of which the third has one group, and the others two."""
    with connect(direct_settings) as keeper:
        times = ("2026-10-05T10:00", "2026-10-06T10:00")
        add_events(keeper, [Event(organization(n), contact(1), "email_sent", utc(at)) for at in times for n in (1, 2)])
        add_events(keeper, [Event(organization(1), contact(1), "email_sent", utc("2026-10-07T10:00"))])
        yield Gate(keeper, "analytics.event_aggregates")


_THREE = ("run", JOB, "--window", "2026-10-05/2026-10-08")


def test_two_hosts_share_a_backfill(settings: Settings, direct_settings: Settings, session: Session) -> None:
    add_events(session, _EVENTS)
    with connect(direct_settings) as keeper:
        gate = Gate(keeper, "analytics.event_aggregates")
        gate.close_at(1)
        first = start_backfill("run", JOB, *_RANGE, settings=settings)
        gate.wait_for_writer(first)
        second = start_backfill("resume", "1", settings=settings)
        gate.wait_for_writer(second)
        gate.open()
        outputs = [process.communicate() for process in (first, second)]
    assert [first.returncode, second.returncode] == [ExitCode.DONE, ExitCode.DONE], outputs
    assert set(successes(session).values()) == {1}
    assert len(successes(session)) == _DAYS
    assert stored_rollups(session) == reference_rollups(_EVENTS)
    # Both have worked.
    assert len({row["pid"] for row in list_runs(session, limit=1000)}) == len(outputs)


@pytest.mark.usefixtures("gate")
def test_a_live_run_goes_first(direct_settings: Settings) -> None:
    with connect(direct_settings) as session:
        live = claims.acquire(session, request(direct_settings, day("2026-10-06")), 1)
        process = start_backfill(*_THREE, settings=direct_settings, MAUNTIC_TAKEOVER_AFTER="1h")
        wait_until(lambda: len(states(session)) > 0, "the plan")
        wait_until(lambda: session.rows(b"SELECT FROM mauntic_jobs.backfills WHERE worked_at > created_at"), "a look")
        time.sleep(1)
        assert set(states(session)) == {WindowState.WAITING}
        claims.stop(session, live, "it has ended")
        _, errors = process.communicate()
        assert process.returncode == ExitCode.DONE, errors
        assert f"waiting for run {live.id} of {JOB}, which goes first" in events_said(errors)
        assert states(session) == [WindowState.DONE] * 3


def test_a_window_is_in_no_live_runs_way(direct_settings: Settings, gate: Gate) -> None:
    gate.close_at(2)
    process = start_backfill(*_THREE, settings=direct_settings)
    gate.wait_for_writer(process)
    live = run_program(JOB, "--date", "2026-10-07", "--grace", "0s", settings=direct_settings)
    assert live.returncode == ExitCode.DONE, live.stderr
    # One of the same day waits until the window has ended, so that neither reads what the other is about to write.
    same = start_program(JOB, "--date", "2026-10-05", "--grace", "0s", settings=direct_settings)
    with connect(direct_settings) as session:
        waiting = b"SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid <> 42 AND NOT granted"
        wait_until(lambda: session.rows(waiting), "the live run")
        gate.open()
        outputs = [each.communicate() for each in (process, same)]
        assert [process.returncode, same.returncode] == [ExitCode.DONE, ExitCode.DONE], outputs
        assert sorted(stored_rollups(session).values()) == [(1, 1)] * 5


def test_a_signal_ends_it_with_the_command_that_goes_on(direct_settings: Settings, gate: Gate) -> None:
    gate.close_at(2)
    process = start_backfill(*_THREE, settings=direct_settings)
    gate.wait_for_writer(process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == ExitCode.TERMINATED
    gate.open()
    command = shlex.split(events_said(errors).rpartition("To go on: mauntic-jobs ")[2])
    assert command == ["backfill", "resume", "1"]
    assert run_program(*command, settings=direct_settings).returncode == ExitCode.DONE
    with connect(direct_settings) as session:
        assert states(session) == [WindowState.DONE] * 3


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_what_is_being_run_ends_and_nothing_else_begins(direct_settings: Settings, gate: Gate, verb: str) -> None:
    gate.close_at(2)
    process = start_backfill(*_THREE, settings=direct_settings)
    gate.wait_for_writer(process)
    changed = backfill(verb, "1", settings=direct_settings)
    assert (changed.returncode, "1 window under way will end" in changed.stderr) == (ExitCode.DONE, True)
    gate.open()
    _, errors = process.communicate()
    assert process.returncode == ExitCode.PARTIAL, errors
    left = WindowState.WAITING if verb == "pause" else WindowState.CANCELED
    with connect(direct_settings) as session:
        assert states(session) == [WindowState.DONE, left, left]
        again = backfill("resume", "1", settings=direct_settings)
        if verb == "pause":
            assert again.returncode == ExitCode.DONE
            assert states(session) == [WindowState.DONE] * 3
            return
        # What a canceled backfill left is free for the next.
        assert (again.returncode, "was canceled" in again.stderr) == (ExitCode.USAGE, True)
        assert backfill(*_THREE, settings=direct_settings).returncode == ExitCode.DONE
        assert states(session, 2) == [WindowState.SKIPPED, WindowState.DONE, WindowState.DONE]
        assert "running" not in {row["status"] for row in list_runs(session)}


@pytest.mark.usefixtures("gate")
def test_a_window_ended_is_a_line_of_the_log(direct_settings: Settings) -> None:
    done = backfill(*_THREE, "--newest-first", settings=direct_settings)
    assert done.returncode == ExitCode.DONE, done.stderr
    lines = [line for line in said(done.stderr) if line["event"] == "window ended"]
    assert [(line["window"], line["state"], line["ended"], line["windows"]) for line in lines] == [
        ("2026-10-07/2026-10-08", "done", 1, 3),
        ("2026-10-06/2026-10-07", "done", 2, 3),
        ("2026-10-05/2026-10-06", "done", 3, 3),
    ]
