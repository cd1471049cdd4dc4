"""When a clock need not look again, and the stamp by which `schedule run --quiet` knows it."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mauntic_jobs.jobs.registry import JOBS
from mauntic_jobs.runner.job_pause import JobPause
from mauntic_jobs.scheduler import idle_stamp
from mauntic_jobs.scheduler.idle import idle_until
from mauntic_jobs.scheduler.idle_stamp import nothing_is_due, write_stamp
from mauntic_jobs.scheduler.plan import SlotState, plan
from mauntic_jobs.settings.settings import Settings
from mauntic_jobs.stores.postgres.session import Session
from mauntic_jobs.timekeeping import clock
from mauntic_jobs.timekeeping.catch_up import Which
from tests.scheduler.ticking import TABLE, look, ticking
from tests.support import utc

_JOB = JOBS["aggregate-hourly"]
_NOW = utc("2026-10-05T09:30")
_SETTLED = SlotState("0 * * * *", utc("2026-10-05T09:00"), utc("2026-10-05T09:00"))
_HOURLY = Settings(watch_every="1h")
_QUIET = ["schedule", "run", "--quiet"]


def _until(
    state: SlotState,
    *tasks: datetime,
    here: datetime = _NOW,
    settings: Settings = _HOURLY,
) -> datetime | None:
    return idle_until([plan(_JOB, state, settings, _NOW)], tasks, _NOW, here, settings)


def test_nothing_is_due_before_the_next_slot_of_a_job_or_task_and_within_the_interval_of_a_loop() -> None:
    assert _until(_SETTLED) == utc("2026-10-05T10:00")
    assert _until(_SETTLED, utc("2026-10-05T09:45"), utc("2026-10-05T10:00")) == utc("2026-10-05T09:45")
    assert _until(_SETTLED, settings=Settings()) == _NOW + timedelta(minutes=5)
    assert idle_until([], [], _NOW, _NOW, _HOURLY) == _NOW + timedelta(hours=1)


def test_a_slot_strikes_by_the_clock_that_is_ahead() -> None:
    # The call at the host's 10:00 waits for the database's; one that it answered from the stamp would be a minute late.
    assert _until(_SETTLED, here=_NOW + timedelta(seconds=50)) == utc("2026-10-05T10:00")
    assert _until(_SETTLED, here=_NOW - timedelta(seconds=50)) == utc("2026-10-05T09:59:10")


@pytest.mark.parametrize(
    "changed",
    [
        {"cron": None, "settled": None, "latest": None},
        {"settled": utc("2026-10-05T08:00"), "latest": utc("2026-10-05T08:00")},
        {"open": frozenset({utc("2026-10-05T09:00")}), "settled": utc("2026-10-05T08:00")},
        {"held": frozenset({utc("2026-10-05T09:00")}), "settled": utc("2026-10-05T08:00")},
        {"running": "run 1 on h"},
        {"former": ("15 * * * *",)},
        {"cron": "15 * * * *"},
        {"settled": utc("2026-10-05T12:00")},
        {"pause": JobPause(utc("2026-10-05T09:40"), "why", "who")},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_what_may_fall_due_between_slots_wants_a_look_at_every_call(changed: dict[str, Any]) -> None:
    assert _until(_SETTLED) is not None
    assert _until(replace(_SETTLED, **changed)) is None


def test_a_look_knows_until_when_nothing_is_due_once_all_is_run(direct_settings: Settings, session: Session) -> None:
    session.execute(TABLE)
    job = ticking("idle", "0 * * * *", Which.ALL, timedelta(hours=6))
    assert look(direct_settings, utc("2026-10-05T09:30"), job)[1].idle_until is None
    known = look(direct_settings, utc("2026-10-05T09:57"), job)[1]
    assert known.idle_until == utc("2026-10-05T10:00")
    reports, ran = look(direct_settings, utc("2026-10-05T10:01"), job)
    assert (len(reports), ran.idle_until) == (1, utc("2026-10-05T10:06"))
    assert look(direct_settings, utc("2026-10-05T10:02"), job, dry=True)[1].idle_until is None


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of the stamp of this process."""
    module = tmp_path / "module.py"
    module.write_text("", "utf-8")
    os.utime(module)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("MAUNTIC_CONFIG", str(tmp_path / "settings.toml"))
    monkeypatch.setattr("sys.path", [str(tmp_path / "packages")])
    monkeypatch.setattr(idle_stamp, "_changed_at", lambda _: 0.0)
    return tmp_path / f"mauntic-jobs-{os.geteuid()}"


def _stamped() -> None:
    assert not nothing_is_due(_QUIET)
    write_stamp(clock.now() + timedelta(minutes=5))
    assert nothing_is_due(_QUIET)


def _edit(place: Path, change: Callable[[dict[str, Any]], object]) -> None:
    (file,) = place.iterdir()
    kept = json.loads(file.read_text("utf-8"))
    change(kept)
    file.write_text(json.dumps(kept), "utf-8")


@pytest.mark.usefixtures("place")
def test_a_stamp_answers_until_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    _stamped()
    now, up = clock.now, time.clock_gettime
    for minutes, answers in ((4.9, True), (5.1, False)):
        later = timedelta(minutes=minutes)
        monkeypatch.setattr(clock, "now", lambda later=later: now() + later)
        monkeypatch.setattr(time, "clock_gettime", lambda which, later=later: up(which) + later.total_seconds())
        assert nothing_is_due(_QUIET) is answers


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("seconds", [-3600, -59, -2, 2, 59, 3600])
def test_a_clock_that_was_set_ends_a_stamp(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    _stamped()
    now = clock.now
    monkeypatch.setattr(clock, "now", lambda: now() + timedelta(seconds=seconds))
    assert not nothing_is_due(_QUIET)


def test_a_stamp_that_would_end_before_the_next_call_of_cron_is_not_written(place: Path) -> None:
    assert not nothing_is_due(_QUIET)
    write_stamp(clock.now() + timedelta(seconds=59))
    assert not place.exists()


def test_a_restart_of_the_host_ends_a_stamp(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    _stamped()
    boot = place.parent / "boot_id"
    boot.write_text("another\n", "ascii")
    monkeypatch.setattr(idle_stamp, "_BOOT_ID", boot)
    assert not nothing_is_due(_QUIET)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("name", ["MAUNTIC_WATCH_EVERY", "REDIS_URL", "PGOPTIONS", "DATABASE_URL", "TZ"])
def test_another_environment_has_no_part_in_a_stamp(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    _stamped()
    monkeypatch.setenv("INVOCATION_ID", "of another start by systemd")
    assert nothing_is_due(_QUIET)
    monkeypatch.setenv(name, "another")
    assert not nothing_is_due(_QUIET)


def test_a_settings_file_that_comes_changes_or_goes_ends_a_stamp(place: Path) -> None:
    file = place.parent / "settings.toml"
    _stamped()
    file.write_text('watch_every = "1h"\n', "utf-8")
    _stamped()
    before = file.stat()
    file.write_text('watch_every = "5m"\n', "utf-8")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    _stamped()
    file.unlink()
    assert not nothing_is_due(_QUIET)


def test_a_pipe_in_place_of_the_settings_file_is_not_waited_for(place: Path) -> None:
    os.mkfifo(place.parent / "settings.toml")
    _stamped()


def test_code_that_was_changed_and_packages_that_were_installed_end_a_stamp(
    monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    own = type(os)("own")
    own.__file__ = str(place.parent / "module.py")
    monkeypatch.setitem(__import__("sys").modules, "own", own)
    _stamped()
    Path(own.__file__).write_text("CRON = '* * * * *'\n", "utf-8")
    _stamped()
    (place.parent / "packages").mkdir()
    _stamped()
    monkeypatch.setattr(idle_stamp, "__version__", "9.9.9")
    assert not nothing_is_due(_QUIET)


def test_code_that_changed_during_the_call_leaves_no_stamp(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    assert not nothing_is_due(_QUIET)
    monkeypatch.setattr(idle_stamp, "_changed_at", lambda _: clock.now().timestamp())
    write_stamp(clock.now() + timedelta(minutes=5))
    assert not place.exists()


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("line", ["schedule run", "schedule run --quiet --json", "schedule list --quiet", "status"])
def test_other_command_lines_look_and_leave_the_stamp(line: str) -> None:
    _stamped()
    assert not nothing_is_due(line.split())
    write_stamp(clock.now() + timedelta(days=1))
    assert nothing_is_due(_QUIET)


@pytest.mark.parametrize(
    "change",
    [lambda kept: kept.pop("until"), lambda kept: kept.update(times=[1, 2]), lambda kept: kept.update(until="later")],
)
def test_a_stamp_that_is_damaged_is_removed(place: Path, change: Callable[[dict[str, Any]], object]) -> None:
    _stamped()
    _edit(place, change)
    assert not nothing_is_due(_QUIET)
    assert list(place.iterdir()) == []


def test_a_directory_that_others_can_write_in_is_not_used(place: Path) -> None:
    _stamped()
    place.chmod(0o777)
    assert not nothing_is_due(_QUIET)
    place.chmod(0o700)
    assert nothing_is_due(_QUIET)
    elsewhere = place.with_name("elsewhere")
    place.rename(elsewhere)
    place.symlink_to(elsewhere)
    assert not nothing_is_due(_QUIET)
    write_stamp(clock.now() + timedelta(minutes=5))
    assert not nothing_is_due(_QUIET)


def test_a_link_is_not_read(place: Path) -> None:
    _stamped()
    (file,) = place.iterdir()
    target = place.with_name("target")
    file.rename(target)
    file.symlink_to(target)
    assert not nothing_is_due(_QUIET)


def test_a_host_that_cannot_write_a_stamp_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    assert not nothing_is_due(_QUIET)
    write_stamp(clock.now() + timedelta(minutes=5))
    assert not nothing_is_due(_QUIET)
