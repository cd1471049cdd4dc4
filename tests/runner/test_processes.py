"""Real processes: started at once, killed, frozen, stopped. A gate in the database holds them in mid-write."""

import shlex
import signal
from collections.abc import Iterator
from datetime import date

import pytest

from mauntic_jobs.errors import ExitCode
from mauntic_jobs.runner.history import list_runs
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session, connect
from tests.gate import Gate
from tests.support import (
    Event,
    Rollups,
    add_events,
    contact,
    organization,
    reference_rollups,
    start_program,
    stored_rollups,
    utc,
    wait_until,
)

_DAY = date(2026, 10, 5)
_TYPES = [f"type_{number}" for number in range(10)]
_EVENTS = [
    Event(organization(owner), contact(person), kind, utc("2026-10-05T10:00"))
    for kind in _TYPES
    for owner in range(3)
    for person in range(4)
]
_ROWS = 25  # at least so many are inserted, also where some are there
_MIDDLE = 12
_KILLS = 13  # with and without earlier rows, directly and through the pooler: 52
_WINDOW = ("--window", "2026-10-05T09:00/2026-10-05T12:00")


@pytest.fixture
def gate(direct_settings: Settings) -> Iterator[Gate]:
    with connect(direct_settings) as keeper:
        add_events(keeper, _EVENTS)
        yield Gate(keeper, "analytics.event_aggregates")


def _complete() -> Rollups:
    return reference_rollups(_EVENTS)


def test_of_eight_processes_started_at_once_one_works_and_seven_try_later(
    settings: Settings, session: Session, gate: Gate
) -> None:
    gate.close_at(_MIDDLE)
    processes = [start_program("aggregate-hourly", *_WINDOW, settings=settings) for _ in range(8)]
    wait_until(lambda: sum(process.poll() is not None for process in processes) == 7, "the end of seven")
    assert [process.returncode for process in processes if process.returncode is not None] == [ExitCode.TRY_LATER] * 7
    gate.open()
    outputs = [process.communicate() for process in processes]
    assert sorted(process.returncode for process in processes) == [ExitCode.DONE, *[ExitCode.TRY_LATER] * 7]
    assert sum("is being run by run" in errors for _, errors in outputs) == 7
    assert stored_rollups(session) == _complete()
    assert sorted(row["status"] for row in list_runs(session)) == [*["skipped"] * 7, "succeeded"]


def test_an_overlap_can_count_as_done(settings: Settings, gate: Gate) -> None:
    gate.close_at(_MIDDLE)
    owner = start_program("aggregate-hourly", *_WINDOW, settings=settings)
    gate.wait_for_writer(owner)
    other = start_program("aggregate-hourly", *_WINDOW, "--skip-ok", settings=settings)
    other.communicate()
    assert other.returncode == ExitCode.DONE
    gate.open()
    owner.communicate()
    assert owner.returncode == ExitCode.DONE


@pytest.mark.parametrize("first_rows_exist", [False, True])
def test_kills_in_the_middle_of_the_write_leave_nothing_half_written(
    settings: Settings, session: Session, gate: Gate, *, first_rows_exist: bool
) -> None:
    before: Rollups = {}
    if first_rows_exist:
        before = {(organization(0), _DAY, "type_0"): (1, 1), (organization(2), _DAY, "type_9"): (2, 2)}
        for (owner, day, kind), (events, people) in before.items():
            session.execute(
                b"INSERT INTO analytics.event_aggregates (organization_id, date, event_type, count, unique_count)"
                b" VALUES (%(owner)s, %(day)s, %(kind)s, %(events)s, %(people)s)",
                {"owner": owner, "day": day, "kind": kind, "events": events, "people": people},
            )
    for kill in range(_KILLS):
        gate.close_at(1 + kill % _ROWS)
        # Each takes over from the one that was killed before it.
        process = start_program(
            "aggregate-hourly", *_WINDOW, "--overlap=wait", settings=settings, MAUNTIC_TAKEOVER_AFTER="0.5s"
        )
        gate.wait_for_writer(process)
        process.kill()
        process.communicate()
        assert stored_rollups(session) == before
    gate.open()
    process = start_program(
        "aggregate-hourly", *_WINDOW, "--overlap=wait", settings=settings, MAUNTIC_TAKEOVER_AFTER="0.5s"
    )
    assert process.wait() == ExitCode.DONE, process.communicate()
    process.communicate()
    assert stored_rollups(session) == _complete()
    assert [row["status"] for row in list_runs(session, limit=100)] == ["succeeded", *["lost"] * _KILLS]


def test_a_frozen_process_is_replaced_and_cannot_write_when_it_wakes(
    settings: Settings, session: Session, gate: Gate
) -> None:
    gate.close_at(_MIDDLE)
    frozen = start_program("aggregate-hourly", *_WINDOW, settings=settings, MAUNTIC_TAKEOVER_AFTER="1s")
    gate.wait_for_writer(frozen)
    frozen.send_signal(signal.SIGSTOP)
    gate.open()
    other = start_program(
        "aggregate-hourly", *_WINDOW, "--overlap=wait", settings=settings, MAUNTIC_TAKEOVER_AFTER="1s"
    )
    other.communicate()
    assert other.returncode == ExitCode.DONE
    written = session.rows(b"SELECT ctid, xmin, * FROM analytics.event_aggregates ORDER BY id")
    frozen.send_signal(signal.SIGCONT)
    _, errors = frozen.communicate()
    assert frozen.returncode == ExitCode.TRY_LATER, errors
    assert "taken over" in errors
    assert session.rows(b"SELECT ctid, xmin, * FROM analytics.event_aggregates ORDER BY id") == written
    assert stored_rollups(session) == _complete()
    assert [row["status"] for row in list_runs(session)] == ["succeeded", "lost"]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, ExitCode.TERMINATED), (signal.SIGINT, ExitCode.INTERRUPTED)]
)
def test_a_signal_stops_the_run_cleanly(
    settings: Settings, session: Session, gate: Gate, number: signal.Signals, code: ExitCode
) -> None:
    gate.close_at(_MIDDLE)
    process = start_program("aggregate-hourly", *_WINDOW, settings=settings)
    gate.wait_for_writer(process)
    process.send_signal(number)
    output, errors = process.communicate()
    assert (process.returncode, output) == (code, "")
    assert f"stopped by signal {number.value}. Nothing was written. To go on: mauntic-jobs aggregate-hourly" in errors
    assert stored_rollups(session) == {}
    assert [row["status"] for row in list_runs(session)] == ["stopped"]
    gate.open()
    # The command that the message names goes on.
    command = shlex.split(errors.rpartition("To go on: mauntic-jobs ")[2])
    assert command[:2] == ["aggregate-hourly", "--window"]
    again = start_program(*command, settings=settings)
    again.communicate()
    assert again.returncode == ExitCode.DONE
    assert stored_rollups(session) == _complete()


def test_a_second_signal_ends_the_process_at_once(settings: Settings, gate: Gate) -> None:
    gate.close_at(_MIDDLE)
    process = start_program("aggregate-hourly", *_WINDOW, settings=settings)
    gate.wait_for_writer(process)
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    process.communicate()
    assert process.returncode in (-signal.SIGTERM, -signal.SIGINT, ExitCode.TERMINATED, ExitCode.INTERRUPTED)
